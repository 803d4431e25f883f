// SPDX-License-Identifier: MIT
// A C++ program as people write them: threads that pass strings, maps and vectors to each other,
// and exceptions that cross frames which hold memory. It prints what it has computed.
#include <algorithm>
#include <condition_variable>
#include <cstdint>
#include <cstdio>
#include <deque>
#include <functional>
#include <future>
#include <list>
#include <map>
#include <memory>
#include <mutex>
#include <new>
#include <numeric>
#include <random>
#include <set>
#include <sstream>
#include <stdexcept>
#include <string>
#include <thread>
#include <unordered_map>
#include <vector>

using Message = std::map<std::string, std::vector<std::string>>;

// Messages are made by one thread and taken apart by another.
class Queue
{
    std::mutex lock;
    std::condition_variable changed;
    std::deque<std::unique_ptr<Message>> waiting;
    bool closed = false;

  public:
    void put(std::unique_ptr<Message> message)
    {
        std::unique_lock<std::mutex> guard(lock);
        changed.wait(guard, [this] { return waiting.size() < 100; });
        waiting.push_back(std::move(message));
        changed.notify_all();
    }
    std::unique_ptr<Message> take()
    {
        std::unique_lock<std::mutex> guard(lock);
        changed.wait(guard, [this] { return closed || !waiting.empty(); });
        if (waiting.empty())
            return nullptr;
        std::unique_ptr<Message> message = std::move(waiting.front());
        waiting.pop_front();
        changed.notify_all();
        return message;
    }
    void close()
    {
        std::lock_guard<std::mutex> guard(lock);
        closed = true;
        changed.notify_all();
    }
};

static std::uint64_t hash(const std::string &text)
{
    std::uint64_t value = 1469598103934665603u;
    for (unsigned char c : text)
        value = (value ^ c) * 1099511628211u;
    return value;
}

static std::uint64_t pass_messages()
{
    Queue queue;
    std::vector<std::thread> makers;
    std::vector<std::future<std::uint64_t>> takers;

    for (int t = 0; t < 4; t++)
        takers.push_back(std::async(std::launch::async, [&queue] {
            std::uint64_t sum = 0;
            while (std::unique_ptr<Message> message = queue.take())
                for (auto &[key, values] : *message)
                    for (std::string &value : values)
                        sum += hash(key + value);
            return sum;
        }));
    for (int t = 0; t < 4; t++)
        makers.emplace_back([&queue, t] {
            std::mt19937 random(t);
            for (int m = 0; m < 1500; m++) {
                auto message = std::make_unique<Message>();
                for (int k = 0; k < 10; k++) {
                    auto &values = (*message)["key " + std::to_string(random() % 1000)];
                    for (unsigned v = 0; v < random() % 8; v++)
                        values.emplace_back(random() % 300, 'a' + v);
                }
                queue.put(std::move(message));
            }
        });
    for (std::thread &maker : makers)
        maker.join();
    queue.close();
    return std::accumulate(takers.begin(), takers.end(), std::uint64_t{0},
                           [](std::uint64_t sum, auto &taker) { return sum + taker.get(); });
}

// Throws from the bottom; every frame holds memory that unwinding must free.
static std::size_t descend(int depth, std::mt19937 &random)
{
    std::vector<std::string> held(1 + random() % 20, std::string(random() % 200, 'h'));
    std::ostringstream told;

    told << "depth " << depth << " holds " << held.size();
    if (depth == 0) {
        if (random() % 3 == 0)
            throw std::runtime_error(told.str());
        if (random() % 3 == 0) {
            std::size_t size = PTRDIFF_MAX - random();
            asm("" : "+r"(size)); // the compiler knows that it cannot be had
            std::unique_ptr<char[]> none(new char[size]);
        }
        return told.str().size();
    }
    try {
        return descend(depth - 1, random) + held.size();
    } catch (const std::runtime_error &error) {
        if (depth % 2)
            throw std::runtime_error(error.what() + (" through " + told.str()));
        throw;
    }
}

static std::uint64_t throw_and_catch()
{
    std::vector<std::future<std::uint64_t>> results;

    for (int t = 0; t < 4; t++)
        results.push_back(std::async(std::launch::async, [t] {
            std::mt19937 random(t + 100);
            std::uint64_t sum = 0;
            for (int i = 0; i < 1500; i++)
                try {
                    sum += descend(12, random);
                } catch (const std::bad_alloc &) {
                    sum += 1000003;
                } catch (const std::exception &error) {
                    sum += hash(error.what());
                }
            return sum;
        }));
    return std::accumulate(results.begin(), results.end(), std::uint64_t{0},
                           [](std::uint64_t sum, auto &result) { return sum + result.get(); });
}

static std::uint64_t containers()
{
    std::mt19937 random(7);
    std::unordered_map<std::string, std::list<int>> table;
    std::multiset<std::string> sorted;
    std::vector<std::vector<double>> matrix;
    std::uint64_t sum = 0;

    for (int i = 0; i < 60000; i++) {
        std::string key(random() % 60, 'k');
        key += std::to_string(random() % 5000);
        table[key].push_back(i);
        if (i % 3 == 0)
            sorted.insert(key);
        if (i % 7 == 0)
            table.erase(key);
        if (i % 100 == 0)
            matrix.emplace_back(random() % 5000, 1.5 * i);
    }
    for (auto &[key, numbers] : table)
        sum += hash(key) * numbers.size();
    std::uint64_t place = 0;
    for (const std::string &key : sorted)
        sum += hash(key) * ++place;
    std::shuffle(matrix.begin(), matrix.end(), random);
    for (std::vector<double> &row : matrix)
        sum = sum * 31 + static_cast<std::uint64_t>(std::accumulate(row.begin(), row.end(), 0.0));
    return sum;
}

int main()
{
    std::printf("messages %016llx\n", static_cast<unsigned long long>(pass_messages()));
    std::printf("exceptions %016llx\n", static_cast<unsigned long long>(throw_and_catch()));
    std::printf("containers %016llx\n", static_cast<unsigned long long>(containers()));
}
