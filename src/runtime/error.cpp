#include <bittern/error.h>

#include <utility>

namespace bittern {
namespace {

std::string message(const std::string& place, const std::string& problem, const std::string& remedy) {
  return place + ": " + problem + (remedy.empty() ? "" : "; " + remedy);
}

}  // namespace

Error::Error(ErrorCode code, std::string place, std::string problem, std::string remedy)
    : std::runtime_error(message(place, problem, remedy)),
      code_(code),
      place_(std::move(place)),
      problem_(std::move(problem)),
      remedy_(std::move(remedy)) {}

Error::~Error() = default;

}  // namespace bittern
