// Tasks shared among threads: those of the caller's OpenMP library where it said which (see step.h), else the pool's.
#pragma once
#include <atomic>
#include <exception>
#include <mutex>

#include "pool.h"
#include "step.h"

namespace bertsmith {

extern Parallel parallel_of_caller;

// task(i) for every i below `tasks`, on as many threads as there are, the next free one taking the next task.
template <class F>
void share(int threads, int tasks, const F& task) {
  struct Job {
    const F& task;
    int tasks;
    std::atomic<int> next{0};
    std::mutex lock;
    std::exception_ptr error;
    void work() {
      try {
        for (int i; (i = next++) < tasks;) task(i);
      } catch (...) {
        std::lock_guard<std::mutex> held(lock);
        error = std::current_exception();
      }
    }
  } job{task, tasks, {}, {}, {}};
  if (threads <= 1 || tasks <= 1)
    job.work();
  else if (parallel_of_caller)
    parallel_of_caller([](void* data) { static_cast<Job*>(data)->work(); }, &job, static_cast<unsigned>(threads), 0);
  else
    Pool::run(threads, [&](int) { job.work(); });
  if (job.error) std::rethrow_exception(job.error);
}

}  // namespace bertsmith
