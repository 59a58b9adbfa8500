// Collected problems, and quoting of text that comes from a file.
#include "format/problems.h"

#include <utility>

#include <bittern/error.h>

namespace bittern::format {

namespace {

constexpr std::size_t most_listed = 20;
constexpr std::size_t longest_quote = 80;
constexpr const char* remedy = "write the file again with this version of bittern";

}  // namespace

std::string quote(std::string_view text) {
  constexpr char digits[] = "0123456789abcdef";
  const bool cut = text.size() > longest_quote;
  if (cut) {
    std::size_t end = longest_quote;
    while (end > 0 && (static_cast<unsigned char>(text[end]) & 0xC0u) == 0x80u) --end;  // whole UTF-8 characters
    text = text.substr(0, end);
  }
  std::string result = "'";
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte < 0x20 || byte == 0x7F) {
      result += "\\x";
      result += digits[byte >> 4];
      result += digits[byte & 15u];
    } else {
      result += c;
    }
  }
  return result + (cut ? "...'" : "'");
}

std::string label(std::string_view text) {
  std::string result = quote(text);
  const bool changed = result.size() != text.size() + 2 || text.empty();
  return changed ? result : std::string(text);
}

void Problems::add(std::string where, std::string problem) {
  ++count_;
  if (entries_.size() < most_listed) entries_.push_back({std::move(where), std::move(problem)});
}

void Problems::throw_if_any() const {
  if (count_ == 0) return;
  if (count_ == 1) {
    const Entry& entry = entries_.front();
    throw Error(ErrorCode::format, entry.where.empty() ? place_ : place_ + ": " + entry.where, entry.problem, remedy);
  }
  std::string text;
  for (const Entry& entry : entries_) {
    text += (text.empty() ? "" : "; ") + (entry.where.empty() ? entry.problem : entry.where + ": " + entry.problem);
  }
  if (count_ > entries_.size()) text += "; and " + std::to_string(count_ - entries_.size()) + " more problems";
  throw Error(ErrorCode::format, place_, text, remedy);
}

}  // namespace bittern::format
