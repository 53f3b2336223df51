// Faults of the disk, for tests: a file layer over SQLite's own whose n-th write, sync, open or truncation fails when told to.
#pragma once

#include <sqlite3.h>

#include <atomic>
#include <cstdint>
#include <string>

namespace culprit::stream {

struct Faults {
  enum Operation { Write, Sync, Open, Truncate, kOperations };
  std::atomic<std::int64_t> counts[kOperations] = {};  // helper threads write and open files too
  std::atomic<std::int64_t> read_bytes = 0;
  std::atomic<bool> hold_summaries = false;   // their new file opens only when this is over, or after a minute:
  std::atomic<bool> held_too_long = false;
  std::atomic<Operation> failing = Write;
  std::atomic<std::int64_t> fail_at = -1;    // the n-th such operation fails
  std::atomic<std::int64_t> fail_from = -1;  // and all from the n-th on
  std::atomic<int> code = SQLITE_FULL;
  std::string full_file;  // every write fails to a file in whose name this is; only where nothing runs in the background
  bool now(Operation operation) {
    const std::int64_t n = ++counts[operation];
    return operation == failing && (n == fail_at || (fail_from >= 0 && n >= fail_from));
  }
};
extern Faults faults;

// Makes it known to SQLite as "faulty"; again does nothing. False if SQLite refuses.
bool register_faulty_vfs();

}  // namespace culprit::stream
