// One process-wide pool of worker threads, lent out in teams.
#pragma once

#include <cstddef>
#include <memory>
#include <vector>

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

  int size() const noexcept { return static_cast<int>(workers_.size()) + 1; }

  // Calls body(task) once for each task in [0, tasks), on all threads of the team, and returns when all are done.
  // `body` must not throw. Which thread runs a task is not fixed, so a task's result must not depend on it.
  template <class Body>
  void run(std::size_t tasks, const Body& body) {
    if (workers_.empty() || tasks <= 1) {
      for (std::size_t task = 0; task < tasks; ++task) body(task);
      return;
    }
    dispatch(tasks, [](const void* context, std::size_t task) { (*static_cast<const Body*>(context))(task); }, &body);
  }

 private:
  using Function = void (*)(const void*, std::size_t);
  void dispatch(std::size_t tasks, Function function, const void* context);

  std::vector<Worker*> workers_;
};

}  // namespace bittern::engine
