// Run with mpirun on several ranks, and alone without it: every case holds for any world size.
#define DOCTEST_CONFIG_IMPLEMENT
#include <doctest/doctest.h>
#include <mpi.h>
#include <unistd.h>

#include <stdexcept>
#include <string>

#include <tessera/bootstrap/mpi.hpp>

#include "memory_limit.hpp"

namespace tessera {
namespace {

using rendezvous::MpiRanks;

int world() { return MpiRanks(MPI_COMM_WORLD).size(); }

std::string broadcast(const MpiRanks& ranks, const std::string& of_zero) {
  std::string text = ranks.rank() == 0 ? of_zero : std::string(of_zero.size(), '?');
  ranks.broadcast(std::as_writable_bytes(std::span(text)));
  return text;
}

// Frees an MPI communicator.
struct Communicator {
  MPI_Comm it = MPI_COMM_NULL;
  ~Communicator() {
    if (it != MPI_COMM_NULL) MPI_Comm_free(&it);
  }
};

TEST_SUITE("before MPI_Init") {
  TEST_CASE("a rendezvous before MPI_Init is refused") {
    CHECK_THROWS_WITH_AS(MpiRanks{MPI_COMM_WORLD}, "rendezvous: MPI is not initialized: call MPI_Init() first",
                         UsageError);
  }
}

TEST_SUITE("after MPI_Finalize") {
  TEST_CASE("a rendezvous after MPI_Finalize is refused") {
    CHECK_THROWS_WITH_AS(MpiRanks{MPI_COMM_WORLD}, "rendezvous: MPI is finalized: do this before MPI_Finalize()",
                         UsageError);
  }
}

TEST_SUITE("meanwhile") {
  TEST_CASE("rank and size are those of the communicator") {
    const MpiRanks all(MPI_COMM_WORLD);
    Communicator turned, alone;
    MPI_Comm_split(MPI_COMM_WORLD, 0, -all.rank(), &turned.it);
    MPI_Comm_split(MPI_COMM_WORLD, all.rank(), 0, &alone.it);
    CHECK(MpiRanks(turned.it).rank() == all.size() - 1 - all.rank());
    CHECK(MpiRanks(turned.it).size() == all.size());
    CHECK(MpiRanks(alone.it).rank() == 0);
    CHECK(MpiRanks(alone.it).size() == 1);
  }

  TEST_CASE("all ranks get the bytes of rank 0, several times") {
    Communicator turned;
    MPI_Comm_split(MPI_COMM_WORLD, 0, -MpiRanks(MPI_COMM_WORLD).rank(), &turned.it);
    const MpiRanks ranks(turned.it);
    for (const std::string text : {"first", "again", ""}) CHECK(broadcast(ranks, text) == text);
  }

  TEST_CASE("the caller's messages in flight over the communicator are not affected") {
    const MpiRanks me(MPI_COMM_WORLD);
    int mine = 7, got = 0;
    MPI_Request any;
    MPI_Irecv(&got, 1, MPI_INT, MPI_ANY_SOURCE, MPI_ANY_TAG, MPI_COMM_WORLD, &any);
    {
      const MpiRanks ranks(MPI_COMM_WORLD);
      ranks.all_ready([] {});
      CHECK(broadcast(ranks, "id") == "id");
    }
    MPI_Send(&mine, 1, MPI_INT, (me.rank() + 1) % me.size(), 0, MPI_COMM_WORLD);
    MPI_Wait(&any, MPI_STATUS_IGNORE);
    CHECK(got == 7);
  }

  TEST_CASE("if ranks cannot start, all ranks get the message of the first of them, and those rethrow their own") {
    const MpiRanks ranks(MPI_COMM_WORLD);
    const int last = ranks.size() - 1;
    for (const int first : {0, last / 2, last}) {
      std::string own, of_peer;
      try {
        ranks.all_ready([&] {
          if (ranks.rank() >= first) throw std::runtime_error("no device");
        });
      } catch (const PeerError& error) {
        of_peer = error.what();
      } catch (const std::runtime_error& error) {
        own = error.what();
      }
      CHECK(own == (ranks.rank() < first ? "" : "no device"));
      if (ranks.rank() < first)
        CHECK(of_peer == message({"rank ", first, " of ", ranks.size(), " could not start: no device"}));
    }
    CHECK_NOTHROW(ranks.all_ready([] {}));  // another try is legal
  }

  TEST_CASE("a long reason is cut to the size of the message") {
    const MpiRanks ranks(MPI_COMM_WORLD);
    std::string error;
    try {
      ranks.all_ready([&] {
        if (ranks.rank() == 0) throw OptionError(std::string(10000, 'x'));
      });
    } catch (const Error& thrown) {
      error = thrown.what();
    }
    CHECK(error.size() >= 255);
    CHECK(error.substr(error.size() - 255) == std::string(255, 'x'));
  }

  TEST_CASE("an error of MPI is an exception that names the call, whatever the caller's error handler does") {
    const int me = MpiRanks(MPI_COMM_WORLD).rank();
    Communicator pair;  // of ranks whose buffers have different sizes
    MPI_Comm_split(MPI_COMM_WORLD, me / 2, 0, &pair.it);
    MPI_Errhandler handler;
    MPI_Comm_get_errhandler(pair.it, &handler);
    CHECK(handler == MPI_ERRORS_ARE_FATAL);
    const MpiRanks ranks(pair.it);
    std::string bytes(ranks.rank() == 0 ? 64 : 8, '?');
    const auto unequal = [&] { ranks.broadcast(std::as_writable_bytes(std::span(bytes))); };
    if (ranks.rank() == 0)
      CHECK_NOTHROW(unequal());
    else
      CHECK_THROWS_WITH_AS(unequal(), doctest::Contains("MPI_Bcast: MPI_ERR_TRUNCATE"), CommError);
  }

  TEST_CASE("a null communicator and an intercommunicator are refused") {
    CHECK_THROWS_WITH_AS(MpiRanks{MPI_COMM_NULL}, doctest::Contains("the communicator is MPI_COMM_NULL"), OptionError);
    if (world() == 1) return;  // a second group needs a second rank
    const MpiRanks me(MPI_COMM_WORLD);
    Communicator half, both;
    MPI_Comm_split(MPI_COMM_WORLD, me.rank() % 2, 0, &half.it);
    MPI_Intercomm_create(half.it, 0, MPI_COMM_WORLD, 1 - me.rank() % 2, 0, &both.it);
    CHECK_THROWS_WITH_AS(MpiRanks{both.it}, doctest::Contains("use MPI_Intercomm_merge() first"), OptionError);
  }
}

int run(doctest::Context& context, const char* suite) {
  context.clearFilters();
  context.addFilter("test-suite", suite);
  return context.run();
}

}  // namespace
}  // namespace tessera

// MPI can be initialized and finalized only once per process.
int main(int argc, char** argv) {
  tessera::limit_memory();
  alarm(100);  // ends the program if a rank would wait for a failed peer
  doctest::Context context(argc, argv);
  int failed = tessera::run(context, "before MPI_Init");
  MPI_Init(&argc, &argv);
  failed += tessera::run(context, "meanwhile");
  MPI_Finalize();
  failed += tessera::run(context, "after MPI_Finalize");
  return failed;
}
