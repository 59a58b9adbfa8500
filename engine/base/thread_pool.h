// One process-wide pool of worker threads, lent out in teams.
#pragma once

#include <array>
#include <cstddef>

namespace bittern::engine {

class Worker;

// Some workers of the pool, held for the length of one run. The calling thread is always part of the team.
class Team {
 public:
  // Takes up to `threads - 1` idle workers; fewer when other callers hold them, perhaps none.
  explicit Team(int threads);
  ~Team();
  Team(const Team&) = delete;
  Team& operator=(const Team&) = delete;

  int size() const noexcept { return static_cast<int>(count_) + 1; }

  // Calls body(task) once for each task in [0, tasks), on all threads of the team, and returns when all are done.
  // `body` must not throw. Which thread runs a task is not fixed, so a task's result must not depend on it.
  template <class Body>
  void run(std::size_t tasks, const Body& body) {
    if (count_ == 0 || tasks <= 1) {
      for (std::size_t task = 0; task < tasks; ++task) body(task);
      return;
    }
    dispatch(tasks, [](const void* context, std::size_t task) { (*static_cast<const Body*>(context))(task); }, &body);
  }

 private:
  using Function = void (*)(const void*, std::size_t);
  void dispatch(std::size_t tasks, Function function, const void* context);

  // In place, so that a run allocates nothing; no machine that this is tuned for has more.
  std::array<Worker*, 255> workers_;
  std::size_t count_ = 0;
};

}  // namespace bittern::engine
