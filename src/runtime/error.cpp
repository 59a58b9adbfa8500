#include <bittern/error.h>

#include <cstddef>
#include <string>
#include <utility>

namespace bittern {
namespace {

// Parts of a message may come from a file: whatever it holds, a message stays short enough to read, and on one line.
std::string readable(std::string text, std::size_t most) {
  constexpr char digits[] = "0123456789abcdef";
  const bool cut = text.size() > most;
  if (cut) {
    while (most > 0 && (static_cast<unsigned char>(text[most]) & 0xC0u) == 0x80u) --most;  // whole UTF-8 characters
    text.resize(most);
  }
  std::size_t odd = 0;
  for (const char c : text) odd += static_cast<unsigned char>(c) < 0x20 || c == 0x7F ? 1 : 0;
  if (odd != 0) {
    std::string escaped;
    escaped.reserve(text.size() + 3 * odd);
    for (const char c : text) {
      const auto byte = static_cast<unsigned char>(c);
      if (byte < 0x20 || byte == 0x7F) {
        escaped += "\\x";
        escaped += digits[byte >> 4];
        escaped += digits[byte & 15u];
      } else {
        escaped += c;
      }
    }
    text = std::move(escaped);
  }
  return cut ? text + "..." : text;
}

constexpr std::size_t longest_place = 1000, longest_problem = 1500, longest_remedy = 500;

std::string message(const std::string& place, const std::string& problem, const std::string& remedy) {
  return place + ": " + problem + (remedy.empty() ? "" : "; " + remedy);
}

}  // namespace

Error::Error(ErrorCode code, std::string place, std::string problem, std::string remedy)
    : std::runtime_error(message(readable(place, longest_place), readable(problem, longest_problem), readable(remedy, longest_remedy))),
      code_(code),
      place_(readable(std::move(place), longest_place)),
      problem_(readable(std::move(problem), longest_problem)),
      remedy_(readable(std::move(remedy), longest_remedy)) {}

Error::~Error() = default;

}  // namespace bittern
