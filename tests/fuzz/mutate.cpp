// Loads and runs damaged files in great number, made from a folder of good ones, and holds the library to its promises: each
// ends in a model that runs or in a bittern::Error, and none costs more than its budget before it is refused.
//
//   mutate FOLDER [--count N] [--first N] [--seed N] [--jobs N] [--factor X] [--json FILE] [--only INDEX [--write FILE]]
//
// The same folder, seed and index give the same file on every machine. --factor says how much slower than a release build
// this build may be: the time budget of a file is one second times it (default: 12 with sanitizers, else 1). Crashes happen
// in worker processes; the index is reported and the others go on. Exit code 0: every promise was kept.
#include <sys/mman.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <exception>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <new>
#include <string>
#include <string_view>
#include <vector>

#include "exercise.h"
#include "memory_meter.h"
#include "mutator.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define FUZZ_SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define FUZZ_SANITIZED 1
#endif
#endif
#ifndef FUZZ_SANITIZED
#define FUZZ_SANITIZED 0
#endif

// Refused allocations are to end as std::bad_alloc; the meter counts what is held, so leaks are found without a scan.
extern "C" const char* __asan_default_options();
extern "C" __attribute__((visibility("default"))) const char* __asan_default_options() {
  return "allocator_may_return_null=1:detect_leaks=0:quarantine_size_mb=16:malloc_context_size=2";
}

namespace {

using fuzz::Exercise;
using fuzz::Phase;

constexpr std::size_t base_bytes = std::size_t{64} << 20, bytes_per_byte = 8;  // "64 MB and a few times its size"
constexpr std::size_t most_in_use = std::size_t{256} << 20;                    // with the caller's arrays
constexpr double seconds_to_run = 3;                                           // then a run is ended; that is no fault
constexpr int ended_in_run = 77, ended_in_load = 78;

struct Options {
  std::string folder, json, write;
  std::uint64_t count = 20000, first = 0, seed = 1;
  int jobs = 1;
  double factor = FUZZ_SANITIZED ? 12 : 1;
  bool only = false;
};

enum Count : int { format, unsupported, input, resource, io, refused_later, ran, too_much_work, ended, failures, counts };
constexpr const char* count_names[counts] = {"refused_format", "refused_unsupported", "refused_input", "refused_resource", "refused_io",
                                             "refused_at_run", "ran",                 "too_much_work", "run_ended_early",  "failures"};

struct Worst {
  double value = 0;
  std::uint64_t index = 0;
};

// What a worker tells its parent, in memory of both.
struct Report {
  std::uint64_t index, done;
  int phase;
  std::uint64_t numbers[counts];
  Worst seconds, bytes, bytes_over;  // of loading: CPU time; heap at most; heap at most beyond bytes_per_byte * size
  Worst prepare_seconds;
};

Report* report = nullptr;
double phase_start = 0, load_seconds = 0, use_seconds = 0;
std::size_t load_peak = 0, held_before = 0;
double load_limit = 1;

double cpu_seconds() {
  timespec now{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);  // one thread does it all; that of the process ticks coarsely beside a timer
  return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}

void set_alarm(double seconds) {
  itimerval timer{};
  timer.it_value.tv_sec = static_cast<time_t>(seconds);
  timer.it_value.tv_usec = static_cast<suseconds_t>((seconds - static_cast<double>(timer.it_value.tv_sec)) * 1e6);
  setitimer(ITIMER_PROF, &timer, nullptr);
}

void on_alarm(int) { _exit(report->phase == static_cast<int>(Phase::run) ? ended_in_run : ended_in_load); }

void entered(Phase phase) {
  const double now = cpu_seconds();
  if (report->phase == static_cast<int>(Phase::load)) {
    load_seconds = now - phase_start;
    load_peak = fuzz::memory::peak() - held_before;
  } else if (report->phase == static_cast<int>(Phase::use)) {
    use_seconds = now - phase_start;
  }
  report->phase = static_cast<int>(phase);
  phase_start = now;
  if (phase == Phase::load) {
    held_before = fuzz::memory::held();
    fuzz::memory::reset_peak();
    use_seconds = 0;
  }
  set_alarm(phase == Phase::idle ? 0 : phase == Phase::run ? seconds_to_run : 4 * load_limit);
}

void note(Worst& worst, double value, std::uint64_t index) {
  if (value > worst.value) worst = {value, index};
}

void fail(std::uint64_t index, const std::string& story, const std::string& problem) {
  ++report->numbers[failures];
  std::fprintf(stderr, "FAILED --only %llu: %s [%s]\n", static_cast<unsigned long long>(index), problem.c_str(), story.c_str());
}

// One file. Returns what came of it, for --only.
std::string one(const fuzz::Corpus& corpus, const Options& options, std::uint64_t index) {
  const fuzz::Mutant mutant = fuzz::mutate(corpus, options.seed, index);
  if (options.only) {
    std::printf("%s: %zu bytes\n", mutant.story.c_str(), mutant.bytes.size());
    std::fflush(stdout);
    const auto size = static_cast<std::streamsize>(mutant.bytes.size());
    if (!options.write.empty()) std::ofstream(options.write, std::ios::binary).write(mutant.bytes.data(), size);
  }
  fuzz::Rng rng(options.seed ^ 0x5EED, index);
  const std::span<const std::byte> file = std::as_bytes(std::span(mutant.bytes));
  std::string told;
  const std::size_t held = fuzz::memory::held();
  try {
    Exercise result = fuzz::exercise(file, mutant.sealed, rng, entered);
    told = std::move(result.message);
    using End = Exercise::End;
    const int number = result.end == End::refused       ? static_cast<int>(result.code == bittern::ErrorCode::format        ? format
                                                                             : result.code == bittern::ErrorCode::unsupported ? unsupported
                                                                             : result.code == bittern::ErrorCode::input       ? input
                                                                             : result.code == bittern::ErrorCode::resource    ? resource
                                                                                                                              : io)
                       : result.end == End::run_refused ? static_cast<int>(refused_later)
                       : result.end == End::run         ? static_cast<int>(ran)
                                                        : static_cast<int>(too_much_work);
    ++report->numbers[number];
    if (result.end == End::refused && (result.code == bittern::ErrorCode::input || result.code == bittern::ErrorCode::io)) {
      fail(index, mutant.story, "a damaged file is reported as a wrong argument: " + told);
    }
    if (told.size() > 4000) fail(index, mutant.story, "a message of " + std::to_string(told.size()) + " bytes");
    const auto left_behind = [&] {
      const std::size_t own = told.capacity() > 15 ? told.capacity() + 64 : 0;
      return fuzz::memory::held() > held + own ? fuzz::memory::held() - held - own : 0;
    };
    static bool warm = false;  // the first file leaves tables behind that all later ones share
    if (warm && left_behind() != 0) {  // so may the first user of anything: a leak leaks twice
      const std::size_t first = left_behind();
      fuzz::Rng again(options.seed ^ 0x5EED, index);
      fuzz::exercise(file, mutant.sealed, again, [](Phase) {});
      if (left_behind() > first) fail(index, mutant.story, std::to_string(left_behind() - first) + " bytes are left behind");
    }
    warm = true;
  } catch (const std::bad_alloc&) {
    entered(Phase::idle);
    fail(index, mutant.story, "std::bad_alloc, not an error of the library");
  } catch (const std::exception& error) {
    entered(Phase::idle);
    fail(index, mutant.story, std::string("not an error of the library: ") + error.what());
  }
  note(report->seconds, load_seconds, index);
  note(report->prepare_seconds, use_seconds, index);
  note(report->bytes, static_cast<double>(load_peak), index);
  note(report->bytes_over, std::max(0.0, static_cast<double>(load_peak) - static_cast<double>(bytes_per_byte * mutant.bytes.size())), index);
  if (load_seconds > load_limit) fail(index, mutant.story, "loading took " + std::to_string(load_seconds) + " s");
  if (use_seconds > load_limit) fail(index, mutant.story, "constants and a plan took " + std::to_string(use_seconds) + " s");
  if (load_peak > base_bytes + bytes_per_byte * mutant.bytes.size()) {
    fail(index, mutant.story, "loading took " + std::to_string(load_peak) + " bytes for a file of " + std::to_string(mutant.bytes.size()));
  }
  const std::size_t most = fuzz::memory::peak() - held_before;
  if (most > most_in_use) fail(index, mutant.story, "running took " + std::to_string(most) + " bytes");
  if (options.only) {
    std::printf("loading: %.3f s, %zu bytes of heap at most; constants and plan: %.3f s\n", load_seconds, load_peak, use_seconds);
    std::printf("%s\n", told.empty() ? "ok" : told.c_str());
  }
  return told;
}

[[noreturn]] void work(const fuzz::Corpus& corpus, const Options& options, std::uint64_t start) {
  std::signal(SIGPROF, on_alarm);
  for (std::uint64_t index = start; index < options.first + options.count; index += static_cast<std::uint64_t>(options.jobs)) {
    report->index = index;
    one(corpus, options, index);
    ++report->done;
  }
  report->index = UINT64_MAX;
  _exit(0);
}

pid_t start_worker(const fuzz::Corpus& corpus, const Options& options, Report* own, std::uint64_t start) {
  std::fflush(nullptr);
  const pid_t child = fork();
  if (child != 0) return child;
  report = own;
  work(corpus, options, start);
}

// A worker is gone in the middle of a file: says why, and where it left off.
void mourn(Report& own, int status) {
  const bool exited = WIFEXITED(status);
  if (exited && WEXITSTATUS(status) == ended_in_run) {
    ++own.numbers[ended];
  } else {
    ++own.numbers[failures];
    const std::string how = exited && WEXITSTATUS(status) == ended_in_load ? "does not end"
                            : exited ? "the process ended with " + std::to_string(WEXITSTATUS(status))
                                     : "the process was killed by signal " + std::to_string(WTERMSIG(status));
    std::fprintf(stderr, "FAILED --only %llu: %s, in phase %d\n", static_cast<unsigned long long>(own.index), how.c_str(), own.phase);
  }
  ++own.done;
  own.phase = 0;
}

std::string summary(const Options& options, const std::vector<Report*>& reports, double seconds, std::size_t seeds) {
  Report all{};
  for (const Report* own : reports) {
    all.done += own->done;
    for (int i = 0; i < counts; ++i) all.numbers[i] += own->numbers[i];
    note(all.seconds, own->seconds.value, own->seconds.index);
    note(all.prepare_seconds, own->prepare_seconds.value, own->prepare_seconds.index);
    note(all.bytes, own->bytes.value, own->bytes.index);
    note(all.bytes_over, own->bytes_over.value, own->bytes_over.index);
  }
  std::string text = "{";
  const auto number = [](double value) {
    char digits[40];
    std::snprintf(digits, sizeof digits, "%.6g", value);
    return std::string(digits);
  };
  const auto put_text = [&](const char* name, const std::string& value) {
    text += (text.size() == 1 ? "\"" : ", \"") + std::string(name) + "\": " + value;
  };
  const auto put = [&](const char* name, const Worst& worst) {
    put_text(name, "{\"value\": " + number(worst.value) + ", \"index\": " + std::to_string(worst.index) + "}");
  };
  put_text("files", std::to_string(all.done));
  put_text("seed", std::to_string(options.seed));
  put_text("first", std::to_string(options.first));
  put_text("seeds", std::to_string(seeds));
  put_text("jobs", std::to_string(options.jobs));
  put_text("seconds", number(seconds));
  put_text("files_per_second", number(static_cast<double>(all.done) / std::max(seconds, 1e-9)));
  put_text("time_factor", number(options.factor));
  for (int i = 0; i < counts; ++i) put_text(count_names[i], std::to_string(all.numbers[i]));
  put("worst_load_seconds", all.seconds);
  put("worst_plan_seconds", all.prepare_seconds);
  put("worst_load_bytes", all.bytes);
  put("worst_load_bytes_beyond_8x_size", all.bytes_over);
  return text + "}";
}

int run_all(const fuzz::Corpus& corpus, const Options& options) {
  const std::size_t bytes = sizeof(Report) * static_cast<std::size_t>(options.jobs);
  void* const shared = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (shared == MAP_FAILED) return 2;
  std::vector<Report*> reports;
  std::vector<pid_t> workers;
  const auto wall = [] {
    timespec now{};
    clock_gettime(CLOCK_MONOTONIC, &now);
    return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
  };
  const double start = wall();
  for (int job = 0; job < options.jobs; ++job) {
    reports.push_back(new (static_cast<char*>(shared) + sizeof(Report) * static_cast<std::size_t>(job)) Report{});
    workers.push_back(start_worker(corpus, options, reports.back(), options.first + static_cast<std::uint64_t>(job)));
  }
  std::size_t running = workers.size();
  double told = start;
  while (running > 0) {
    usleep(20000);
    for (std::size_t job = 0; job < workers.size(); ++job) {
      int status = 0;
      if (workers[job] <= 0 || waitpid(workers[job], &status, WNOHANG) != workers[job]) continue;
      Report& own = *reports[job];
      workers[job] = 0;
      if (own.index != UINT64_MAX) {
        mourn(own, status);
        if (own.numbers[failures] < 200) {
          workers[job] = start_worker(corpus, options, &own, own.index + static_cast<std::uint64_t>(options.jobs));
          continue;
        }
        std::fprintf(stderr, "FAILED: too many failures, worker %zu gives up\n", job);
      }
      --running;
    }
    if (wall() - told > 10) {
      told = wall();
      std::uint64_t done = 0, failed = 0;
      for (const Report* own : reports) done += own->done, failed += own->numbers[failures];
      const double rate = static_cast<double>(done) / (told - start);
      std::fprintf(stderr, "%s of %s files, %.0f a second, %s failures\n", std::to_string(done).c_str(), std::to_string(options.count).c_str(), rate,
                   std::to_string(failed).c_str());
    }
  }
  std::uint64_t failed = 0, done = 0;
  for (const Report* own : reports) failed += own->numbers[failures], done += own->done;
  const std::string text = summary(options, reports, wall() - start, corpus.seeds.size());
  std::printf("%s\n", text.c_str());
  if (!options.json.empty()) std::ofstream(options.json) << text << '\n';
  return failed == 0 && done == options.count ? 0 : 1;
}

bool number_of(const char* text, std::uint64_t& out) {
  const std::string_view digits = text;
  const auto [end, failure] = std::from_chars(digits.data(), digits.data() + digits.size(), out);
  return failure == std::errc{} && end == digits.data() + digits.size();
}

bool parse(int count, char** words, Options& options) {
  for (int i = 1; i < count; ++i) {
    const std::string_view word = words[i];
    if (!word.starts_with("--")) {
      options.folder = word;
      continue;
    }
    if (++i == count) return false;
    std::uint64_t number = 0;
    if (word == "--json") {
      options.json = words[i];
    } else if (word == "--write") {
      options.write = words[i];
    } else if (word == "--factor") {
      options.factor = std::strtod(words[i], nullptr);
    } else if (!number_of(words[i], number)) {
      return false;
    } else if (word == "--count") {
      options.count = number;
    } else if (word == "--first") {
      options.first = number;
    } else if (word == "--seed") {
      options.seed = number;
    } else if (word == "--jobs" && number >= 1 && number <= 256) {
      options.jobs = static_cast<int>(number);
    } else if (word == "--only") {
      options.only = true;
      options.first = number;
      options.count = 1;
    } else {
      return false;
    }
  }
  return !options.folder.empty() && options.factor > 0;
}

}  // namespace

int main(int count, char** words) {
  Options options;
  if (!parse(count, words, options)) {
    std::fprintf(stderr, "usage: mutate FOLDER [--count N] [--first N] [--seed N] [--jobs N] [--factor X] [--json FILE] "
                         "[--only INDEX [--write FILE]]\n");
    return 2;
  }
  load_limit = options.factor;
  std::vector<std::filesystem::path> paths;
  std::error_code failure;
  for (const auto& entry : std::filesystem::directory_iterator(options.folder, failure)) paths.push_back(entry.path());
  std::sort(paths.begin(), paths.end());
  fuzz::Corpus corpus;
  for (const auto& path : paths) {
    std::ifstream file(path, std::ios::binary);
    std::string bytes((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
    if (!corpus.add(path.stem().string(), std::move(bytes))) std::fprintf(stderr, "%s: left out, no file without faults\n", path.c_str());
  }
  if (corpus.seeds.empty()) {
    std::fprintf(stderr, "%s: holds no .bittern files\n", options.folder.c_str());
    return 2;
  }
  corpus.finish();
  if (!options.only) return run_all(corpus, options);
  static Report own{};
  report = &own;
  std::signal(SIGPROF, on_alarm);
  one(corpus, options, options.first);
  return own.numbers[failures] == 0 ? 0 : 1;
}
