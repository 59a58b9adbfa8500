// Loads, plans and runs from many threads at once, for the thread sanitizer; every result must equal that of one thread.
//
//   stress ROUNDS FILE...
//
// Exit code 0: all results were equal, and nothing was refused.
#include <bittern/bittern.h>

#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <map>
#include <string>
#include <thread>

#include "arrays.h"

namespace {

constexpr std::int64_t batches[] = {1, 2, 3, 5};

struct Network {
  std::string path;
  bittern::Model model;
  std::map<std::int64_t, tools::Arrays> inputs, outputs;
};

std::atomic<int> failures{0};

void check(const Network& network, const bittern::Model& model, bittern::Session& session, std::int64_t batch) {
  if (tools::run(model, session, batch, network.inputs.at(batch)) == network.outputs.at(batch)) return;
  std::printf("%s: batch %d gives another result than with one thread\n", network.path.c_str(), static_cast<int>(batch));
  ++failures;
}

// What a caller may do at the same time as others: use a model of his own, share one, take sessions from a pool.
void caller(int number, int rounds, const std::vector<Network>& networks, const std::vector<bittern::SessionPool>& pools) {
  try {
    for (int round = 0; round < rounds; ++round) {
      const auto at = static_cast<std::size_t>(number + round) % networks.size();
      const Network& network = networks[at];
      const std::int64_t batch = batches[(number * 7 + round) % 4];
      switch ((number + round / 3) % 4) {
        case 0: {
          const bittern::Model own = bittern::Model::load(network.path);
          bittern::Session session(own, {.threads = 2});
          check(network, own, session, batch);
          break;
        }
        case 1: {
          bittern::Session session(network.model, {.threads = 1 + number % 3});
          check(network, network.model, session, batch);
          break;
        }
        case 2: {
          for (const std::string& name : network.model.constants()) {
            const bittern::ValueInfo info = network.model.constant_info(name);
            const bittern::Shape shape = tools::shape_of(info, 0);
            std::vector<std::byte> room(tools::bytes_of(shape, info.dtype));
            network.model.read_constant(name, {room.data(), info.dtype, shape, {}});
          }
          break;
        }
        default: {
          auto lease = const_cast<bittern::SessionPool&>(pools[at]).take();
          check(network, network.model, *lease, batch);
        }
      }
    }
  } catch (const std::exception& error) {
    std::printf("%s\n", error.what());
    ++failures;
  }
}

}  // namespace

int main(int count, char** words) {
  if (count < 3) {
    std::fprintf(stderr, "usage: stress ROUNDS FILE...\n");
    return 2;
  }
  try {
    std::vector<Network> networks;
    std::vector<bittern::SessionPool> pools;
    for (int i = 2; i < count; ++i) {
      Network network{words[i], bittern::Model::load(words[i]), {}, {}};
      bittern::Session session(network.model, {.threads = 1});
      for (const std::int64_t batch : batches) {
        network.inputs[batch] = tools::inputs_of(network.model, batch, static_cast<std::uint32_t>(batch));
        network.outputs[batch] = tools::run(network.model, session, batch, network.inputs[batch]);
      }
      networks.push_back(std::move(network));
      pools.emplace_back(networks.back().model, bittern::SessionOptions{.threads = 2});
    }
    std::vector<std::thread> threads;
    for (int number = 0; number < 8; ++number) threads.emplace_back([&, number] { caller(number, std::atoi(words[1]), networks, pools); });
    for (std::thread& thread : threads) thread.join();
  } catch (const std::exception& error) {
    std::printf("%s\n", error.what());
    return 1;
  }
  std::printf("%d networks, %d failures\n", count - 2, failures.load());
  return failures == 0 ? 0 : 1;
}
