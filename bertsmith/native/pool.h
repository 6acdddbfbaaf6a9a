// Threads that wait for work, one set a process, and a barrier for those that share one text.
//
// A job is a function of (thread, threads). Workers spin for a moment before they sleep, since encoding one short text takes less than
// waking them does. In a forked child there are no workers: a new set is made at the first job.
#pragma once
#include <immintrin.h>
#include <sched.h>
#include <unistd.h>

#include <atomic>
#include <condition_variable>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

namespace bertsmith {

class Barrier {
 public:
  void wait(int threads) {
    if (threads == 1) return;
    int now = turn_.load(std::memory_order_relaxed);
    if (here_.fetch_add(1, std::memory_order_acq_rel) == threads - 1) {
      here_.store(0, std::memory_order_relaxed);
      turn_.store(now + 1, std::memory_order_release);
      return;
    }
    for (int spins = 0; turn_.load(std::memory_order_acquire) == now; spins++) {
      _mm_pause();
      if (spins > 4000) sched_yield();  // more threads than processors
    }
  }

 private:
  std::atomic<int> here_{0}, turn_{0};
};

// How often a worker looks for work before it sleeps: about two milliseconds, in which the next short text may come. Waking costs as much as
// encoding one does.
constexpr int PATIENCE = 40000;

class Pool {
 public:
  // job(thread) on `threads` threads, the caller being number 0; returns when all have done it. One job at a time: others wait.
  static void run(int threads, const std::function<void(int)>& job) {
    if (threads <= 1) return job(0);
    static std::mutex one_at_a_time;
    static Pool* pool = nullptr;
    std::lock_guard<std::mutex> only(one_at_a_time);
    if (!pool || pool->process_ != getpid() || pool->size_ < threads - 1) {
      if (pool && pool->process_ == getpid()) delete pool;  // a parent's is left alone: its threads are not here
      pool = new Pool(threads - 1);
    }
    pool->all(threads, job);
  }

 private:
  explicit Pool(int size) : process_(getpid()), size_(size) {
    for (int i = 0; i < size; i++) workers_.emplace_back([this, i] { work(i + 1); });
  }
  ~Pool() {
    stop_ = true;
    { std::lock_guard<std::mutex> held(lock_); }
    wake_.notify_all();
    for (auto& one : workers_) one.join();
  }

  void all(int threads, const std::function<void(int)>& job) {
    job_ = &job, wanted_ = threads, busy_.store(size_, std::memory_order_relaxed);
    {
      std::lock_guard<std::mutex> held(lock_);
      number_.fetch_add(1, std::memory_order_release);
    }
    wake_.notify_all();
    job(0);
    for (int spins = 0; busy_.load(std::memory_order_acquire); spins++) {
      _mm_pause();
      if (spins > 4000) sched_yield();
    }
  }

  void work(int mine) {
    for (int seen = 0;;) {
      for (int spins = 0; spins < PATIENCE && number_.load(std::memory_order_acquire) == seen && !stop_; spins++) _mm_pause();
      if (number_.load(std::memory_order_acquire) == seen && !stop_) {
        std::unique_lock<std::mutex> held(lock_);
        wake_.wait(held, [&] { return number_.load() != seen || stop_; });
      }
      if (stop_) return;
      seen++;
      if (mine < wanted_) (*job_)(mine);
      busy_.fetch_sub(1, std::memory_order_release);
    }
  }

  const pid_t process_;
  const int size_;
  std::vector<std::thread> workers_;
  std::mutex lock_;
  std::condition_variable wake_;
  std::atomic<int> number_{0}, busy_{0};
  std::atomic<bool> stop_{false};
  const std::function<void(int)>* job_ = nullptr;
  int wanted_ = 0;
};

}  // namespace bertsmith
