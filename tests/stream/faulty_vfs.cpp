#include "tests/stream/faulty_vfs.h"

#include <chrono>
#include <string_view>
#include <thread>

namespace culprit::stream {

Faults faults;

namespace {

sqlite3_vfs faulty_vfs{};
sqlite3_vfs* real_vfs = nullptr;

struct FaultyFile {
  sqlite3_file base;
  const char* name;  // SQLite's, until the file is closed
  sqlite3_io_methods methods;
};

// The real file lies behind ours in the same allocation.
sqlite3_file* real_file(sqlite3_file* file) { return reinterpret_cast<sqlite3_file*>(reinterpret_cast<char*>(file) + sizeof(FaultyFile)); }

int faulty_write(sqlite3_file* file, const void* data, int size, sqlite3_int64 offset) {
  if (faults.now(Faults::Write)) return faults.code;
  const char* name = reinterpret_cast<FaultyFile*>(file)->name;
  if (!faults.full_file.empty() && name != nullptr && std::string_view(name).find(faults.full_file) != std::string_view::npos) return SQLITE_FULL;
  sqlite3_file* real = real_file(file);
  return real->pMethods->xWrite(real, data, size, offset);
}

template <auto Member, typename... Args>
auto pass(sqlite3_file* file, Args... args) {
  sqlite3_file* real = real_file(file);
  return (real->pMethods->*Member)(real, args...);
}

int faulty_read(sqlite3_file* file, void* data, int size, sqlite3_int64 offset) {
  faults.read_bytes += size;
  return pass<&sqlite3_io_methods::xRead>(file, data, size, offset);
}

int faulty_open(sqlite3_vfs*, sqlite3_filename name, sqlite3_file* file, int flags, int* out) {
  auto* ours = reinterpret_cast<FaultyFile*>(file);
  sqlite3_file* real = real_file(file);
  ours->base.pMethods = nullptr;
  ours->name = name;
  if (faults.now(Faults::Open)) return SQLITE_CANTOPEN;
  for (int tries = 0; name != nullptr && std::string_view(name).ends_with(".new") && faults.hold_summaries; ++tries) {
    faults.held_too_long = faults.held_too_long || tries > 12'000;
    if (faults.held_too_long) break;
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  const int code = real_vfs->xOpen(real_vfs, name, real, flags, out);
  if (real->pMethods == nullptr) return code;
  using Io = sqlite3_io_methods;
  ours->methods = Io{
      .iVersion = real->pMethods->iVersion < 2 ? real->pMethods->iVersion : 2,
      .xClose = [](sqlite3_file* f) { return pass<&Io::xClose>(f); },
      .xRead = [](sqlite3_file* f, void* p, int n, sqlite3_int64 o) { return faulty_read(f, p, n, o); },
      .xWrite = faulty_write,
      .xTruncate = [](sqlite3_file* f, sqlite3_int64 n) { return faults.now(Faults::Truncate) ? SQLITE_IOERR_TRUNCATE : pass<&Io::xTruncate>(f, n); },
      .xSync = [](sqlite3_file* f, int n) { return faults.now(Faults::Sync) ? SQLITE_IOERR_FSYNC : pass<&Io::xSync>(f, n); },
      .xFileSize = [](sqlite3_file* f, sqlite3_int64* n) { return pass<&Io::xFileSize>(f, n); },
      .xLock = [](sqlite3_file* f, int n) { return pass<&Io::xLock>(f, n); },
      .xUnlock = [](sqlite3_file* f, int n) { return pass<&Io::xUnlock>(f, n); },
      .xCheckReservedLock = [](sqlite3_file* f, int* n) { return pass<&Io::xCheckReservedLock>(f, n); },
      .xFileControl = [](sqlite3_file* f, int n, void* p) { return pass<&Io::xFileControl>(f, n, p); },
      .xSectorSize = [](sqlite3_file* f) { return pass<&Io::xSectorSize>(f); },
      .xDeviceCharacteristics = [](sqlite3_file* f) { return pass<&Io::xDeviceCharacteristics>(f); },
      .xShmMap = [](sqlite3_file* f, int a, int b, int c, void volatile** p) { return pass<&Io::xShmMap>(f, a, b, c, p); },
      .xShmLock = [](sqlite3_file* f, int a, int b, int c) { return pass<&Io::xShmLock>(f, a, b, c); },
      .xShmBarrier = [](sqlite3_file* f) { pass<&Io::xShmBarrier>(f); },
      .xShmUnmap = [](sqlite3_file* f, int n) { return pass<&Io::xShmUnmap>(f, n); },
      .xFetch = nullptr,
      .xUnfetch = nullptr,
  };
  ours->base.pMethods = &ours->methods;
  return code;
}

}  // namespace

bool register_faulty_vfs() {
  if (real_vfs != nullptr) return true;
  real_vfs = sqlite3_vfs_find(nullptr);
  faulty_vfs = *real_vfs;
  faulty_vfs.zName = "faulty";
  faulty_vfs.szOsFile += static_cast<int>(sizeof(FaultyFile));
  faulty_vfs.xOpen = faulty_open;
  return sqlite3_vfs_register(&faulty_vfs, 0) == SQLITE_OK;
}

}  // namespace culprit::stream
