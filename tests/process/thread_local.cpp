// SPDX-License-Identifier: MIT
// Proves that destructors of C++ thread_local objects may allocate and free, also objects that are
// first touched in another's destructor, and blocks of other threads.
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

static std::atomic<int> destroyed{0};
static std::mutex lock;
static std::vector<std::string> left_behind;

struct Late {
    std::map<int, std::string> held;
    Late()
    {
        for (int i = 0; i < 50; i++)
            held[i] = std::string(10 + i * 7, 'l');
    }
    ~Late()
    {
        for (int i = 0; i < 50; i++)
            if (held[i] != std::string(10 + i * 7, 'l'))
                std::abort();
        destroyed++;
    }
};

static thread_local Late late;

struct Early {
    std::vector<std::string> held;
    std::unique_ptr<char[]> large{new char[1 << 20]};
    ~Early()
    {
        // `late` is made here, while the thread ends, and destroyed after this.
        std::string first = late.held[0];
        std::vector<std::string> copy(held);

        copy.resize(copy.size() * 2, "copied while the thread ends, beyond the short string");
        std::lock_guard<std::mutex> guard(lock);
        left_behind.insert(left_behind.end(), copy.begin(), copy.end());
        while (left_behind.size() > 5000)
            left_behind.erase(left_behind.begin(), left_behind.begin() + 2500);
        destroyed += first.size() == 10;
    }
};

static thread_local Early early;

static void use(int number)
{
    for (int i = 0; i < 100; i++)
        early.held.push_back("thread " + std::to_string(number) + std::string(i, '.'));
    early.large[12345] = 1;
}

int main()
{
    for (int batch = 0; batch < 50; batch++) {
        std::vector<std::thread> threads;

        for (int i = 0; i < 8; i++)
            threads.emplace_back(use, batch * 8 + i);
        for (std::thread &thread : threads)
            thread.join();
    }
    use(-1); // the main thread's own are destroyed at exit
    std::printf("%d destructors ran\n", destroyed.load());
    return destroyed == 800 ? 0 : 1;
}
