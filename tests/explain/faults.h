// The faults of the scenario tests, as what they do to a World.
#pragma once

#include "tests/explain/world.h"

namespace culprit::test::faults {

World::Fault cpu_hog(World& world);
World::Fault pg_lock(World& world);
World::Fault too_many_clients(World& world);
World::Fault cache_killed(World& world);
World::Fault cache_stopped(World& world);
World::Fault disk_full(World& world);
World::Fault slow_disk(World& world);
World::Fault app_oom(World& world);
World::Fault fd_leak(World& world);
World::Fault bad_release(World& world);
World::Fault wrong_address(World& world);
World::Fault slow_queries(World& world);
World::Fault held_back(World& world);  // by a quota that nobody reads
World::Fault worker_crash(World& world);
World::Fault retransmits(World& world);
World::Fault surge(World& world);
World::Fault more_queries(World& world);  // a bad release that calls the database ten times a request

}  // namespace culprit::test::faults
