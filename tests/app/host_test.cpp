#include "daemon/app/host.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

namespace culprit::app {
namespace {

class HostTest : public testing::Test {
 protected:
  void SetUp() override {
    root_ = std::filesystem::path(testing::TempDir()) / ("proc-" + std::to_string(::getpid()));
    std::filesystem::create_directories(root_ / "pressure");
    std::filesystem::create_directories(root_ / "net");
  }
  void TearDown() override { std::filesystem::remove_all(root_); }
  void write(const char* name, const char* text) { std::ofstream(root_ / name) << text; }
  std::filesystem::path root_;
};

TEST_F(HostTest, ReadsWhatTheKernelOffers) {
  write("meminfo", "MemTotal:       1000 kB\nMemFree:         10 kB\nMemAvailable:    400 kB\nHugePages_Total: 0\n");
  write("pressure/cpu", "some avg10=12.50 avg60=1.00 avg300=0.00 total=1\n");
  write("net/if_inet6", "00000000000000000000000000000001 01 80 10 80 lo\nzz\n");
  write("partitions", "major minor  #blocks  name\n\n 254        0  264241152 vda\n   7        1       1024 loop1\n");
  const Host host(root_);
  const auto facts = host.facts();
  EXPECT_EQ(facts.memory_bytes, 1000 * 1024);
  EXPECT_EQ(facts.memory_available_bytes, 400 * 1024);
  EXPECT_DOUBLE_EQ(facts.pressure_cpu, 0.125);
  EXPECT_LT(facts.pressure_io, 0) << "absent, not zero";
  EXPECT_GT(facts.cpus, 0);
  bool loopback6 = false;
  for (const auto& address : facts.addresses) loopback6 = loopback6 || (address.size() == 16 && address[15] == 1);
  EXPECT_TRUE(loopback6);
  const auto devices = host.devices();
  ASSERT_EQ(devices.size(), 2U);
  EXPECT_EQ(devices[0].name, "vda");
  EXPECT_EQ(devices[0].device, 254U << 20U);
  EXPECT_EQ(devices[1].device, (7U << 20U) | 1U);
}

TEST_F(HostTest, AnEmptyProcIsNoError) {
  const Host host(root_);
  EXPECT_EQ(host.facts().memory_bytes, -1);
  EXPECT_TRUE(host.devices().empty());
  EXPECT_EQ(host.boot_id(), "");
}

}  // namespace
}  // namespace culprit::app
