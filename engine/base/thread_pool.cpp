#include "base/thread_pool.h"

#include <pthread.h>
#if defined(__linux__)
#include <sched.h>
#endif

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <mutex>
#include <span>
#include <system_error>
#include <thread>
#include <vector>

#include "base/cpu_count.h"
#include "base/fp_mode.h"

namespace bittern::engine {
namespace {

void pause_briefly() noexcept {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  __asm__ volatile("yield");
#endif
}

// Work shared by the threads of a team: they draw tasks from `next` until none is left.
struct Job {
  void (*function)(const void*, std::size_t) = nullptr;
  const void* context = nullptr;
  std::size_t tasks = 0;
  std::atomic<std::size_t> next{0};

  void work() {
    for (std::size_t task = next.fetch_add(1, std::memory_order_relaxed); task < tasks;
         task = next.fetch_add(1, std::memory_order_relaxed)) {
      function(context, task);
    }
  }
};

// Waits for `word` to leave `old`: spins a while, since layers and runs follow each other closely, then sleeps. Waking a
// sleeper takes longer than many layers do.
std::uint32_t await_change(const std::atomic<std::uint32_t>& word, std::uint32_t old, int spins) {
  for (int i = 0; i < spins; ++i) {
    if (const std::uint32_t now = word.load(std::memory_order_acquire); now != old) return now;
    pause_briefly();
  }
  word.wait(old, std::memory_order_acquire);
  return word.load(std::memory_order_acquire);
}

}  // namespace

class Worker {
 public:
  Worker() {
    std::thread thread([this] { loop(); });
    handle_ = thread.native_handle();
    thread.detach();
  }

  void start(Job* job) {
    job_ = job;
    post(posted);
  }
  // Returns when the worker has nothing more to do with the job last started. A job it has not begun is taken back: a
  // worker that the system has not scheduled in the meantime must not hold up its team. The counters live here, not in
  // the job, because the worker touches them after its caller may have gone on.
  void wait() {
    std::uint32_t order = order_.load(std::memory_order_relaxed);
    if ((order & state_mask) == posted && order_.compare_exchange_strong(order, next(order) | ready, std::memory_order_acq_rel)) return;
    const std::uint32_t ticket = order_.load(std::memory_order_relaxed) & ~state_mask;
    for (std::uint32_t done = finished_.load(std::memory_order_acquire); done != ticket;) {
      done = await_change(finished_, done, spins_in_team);
    }
  }
  // The worker has joined the team of a caller that runs on `cpu`: it wakes up before there is work, on another CPU. Schedulers
  // like to wake a thread where its waker runs, and leave the two there for milliseconds: longer than a run takes.
  void wake(int cpu) {
    if (cpu != avoided_) keep_off(cpu);
    post(ready);
  }
  // Its team is gone: it sleeps soon.
  void rest() { post(idle); }

 private:
  // An order is a counter whose lowest bits say what the worker is to do: one word, so that no half of it is ever seen.
  static constexpr std::uint32_t idle = 0, ready = 1, posted = 2, running = 3, state_mask = 3;
  // Some tens of microseconds between runs (a caller in Python is that quick), some hundreds between the layers of one.
  static constexpr int spins_idle = 5000, spins_in_team = 10000;

  void keep_off([[maybe_unused]] int cpu) {
    avoided_ = cpu;
#if defined(__linux__)
    cpu_set_t allowed;
    if (cpu < 0 || cpu >= CPU_SETSIZE || sched_getaffinity(0, sizeof allowed, &allowed) != 0) return;
    if (CPU_COUNT(&allowed) < 2) return;
    CPU_CLR(static_cast<std::size_t>(cpu), &allowed);
    pthread_setaffinity_np(handle_, sizeof allowed, &allowed);
#endif
  }

  static std::uint32_t next(std::uint32_t order) { return (order | state_mask) + 1u; }

  void post(std::uint32_t state) {
    order_.store(next(order_.load(std::memory_order_relaxed)) | state, std::memory_order_seq_cst);
    order_.notify_one();
  }

  void loop() {
    const FlushToZero mode;
    std::uint32_t seen = 0;
    while (true) {
      std::uint32_t now = await_change(order_, seen, (seen & state_mask) == idle ? spins_idle : spins_in_team);
      if (now == seen) continue;
      seen = now;
      if ((now & state_mask) != posted) continue;
      const std::uint32_t ticket = now & ~state_mask;
      if (!order_.compare_exchange_strong(now, ticket | running, std::memory_order_acq_rel)) continue;
      seen = ticket | running;
      job_->work();
      // Sequentially consistent: notify_one() looks for waiters, and must not do so before the store can be seen.
      finished_.store(ticket, std::memory_order_seq_cst);
      finished_.notify_one();
    }
  }

  std::atomic<std::uint32_t> order_{0}, finished_{0};
  Job* job_ = nullptr;
  std::thread::native_handle_type handle_{};
  int avoided_ = -1;  // guarded by the pool's lock
};

namespace {

int current_cpu() {
#if defined(__linux__)
  return sched_getcpu();
#else
  return -1;
#endif
}

class Pool {
 public:
  // The workers live as long as the process: joining threads from a static destructor deadlocks in shared libraries.
  Pool() {
    const int workers = granted_cpus() - 1;
    for (int i = 0; i < workers; ++i) {
      try {
        idle_.push_back(new Worker);
      } catch (const std::system_error&) {
        break;  // the system grants no more threads: run with what there is
      }
    }
  }

  // Returns how many it got.
  std::size_t take(std::size_t count, Worker** out) {
    const std::lock_guard lock(mutex_);
    std::size_t taken = 0;
    const int cpu = current_cpu();
    for (; taken < count && !idle_.empty(); ++taken) {
      out[taken] = idle_.back();
      out[taken]->wake(cpu);
      idle_.pop_back();
    }
    return taken;
  }

  void give_back(std::span<Worker* const> workers) {
    const std::lock_guard lock(mutex_);
    for (Worker* worker : workers) {
      worker->rest();
      idle_.push_back(worker);
    }
  }

 private:
  std::mutex mutex_;
  std::vector<Worker*> idle_;
};

std::atomic<Pool*> current_pool{nullptr};
std::atomic<bool> creating{false};

Pool& pool() {
  if (Pool* existing = current_pool.load(std::memory_order_acquire)) return *existing;
  // A spin lock rather than a static local: after fork the child must be able to build a pool of its own.
  while (creating.exchange(true, std::memory_order_acquire)) pause_briefly();
  Pool* made = current_pool.load(std::memory_order_acquire);
  if (made == nullptr) {
    static std::once_flag registered;
    std::call_once(registered, [] {
      // Threads do not survive fork; the parent's pool object is unusable in the child and is left behind.
      pthread_atfork(nullptr, nullptr, [] {
        current_pool.store(nullptr);
        creating.store(false);
      });
    });
    try {
      made = new Pool;
    } catch (...) {
      creating.store(false, std::memory_order_release);
      throw;
    }
    current_pool.store(made, std::memory_order_release);
  }
  creating.store(false, std::memory_order_release);
  return *made;
}

}  // namespace

Team::Team(int threads) {
  if (threads <= 1) return;
  count_ = pool().take(std::min(static_cast<std::size_t>(threads - 1), workers_.size()), workers_.data());
}

Team::~Team() {
  if (count_ != 0) pool().give_back({workers_.data(), count_});
}

void Team::dispatch(std::size_t tasks, Function function, const void* context) {
  Job job;
  job.function = function;
  job.context = context;
  job.tasks = tasks;
  const std::size_t helpers = std::min(tasks - 1, count_);
  for (std::size_t i = 0; i < helpers; ++i) workers_[i]->start(&job);
  job.work();
  for (std::size_t i = 0; i < helpers; ++i) workers_[i]->wait();
}

}  // namespace bittern::engine
