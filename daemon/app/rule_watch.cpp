#include "daemon/app/rule_watch.h"

#include <fmt/format.h>
#include <poll.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <unistd.h>

#include <filesystem>

#include "daemon/base/log.h"

namespace culprit::app {
namespace {

constexpr std::uint32_t kChanges = IN_CLOSE_WRITE | IN_CREATE | IN_DELETE | IN_MOVED_TO | IN_MOVED_FROM | IN_ATTRIB | IN_DELETE_SELF | IN_MOVE_SELF;
constexpr int kLookAgainMs = 5'000;  // for a folder that is not there yet
constexpr std::size_t kFoldersMax = 256;

}  // namespace

struct RuleWatch::Impl {
  Impl(rules::RuleBook& b, const Clock& c) : book(b), clock(c) {}

  rules::RuleBook& book;
  const Clock& clock;
  Fd inotify, wake;
  bool watching = false;  // the folder itself
  std::int64_t changed_at = 0, first_change = 0;  // of changes not yet taken up; 0 = none
  std::jthread thread;

  // Also folders inside; inotify knows a folder again that it already watches.
  void watch_folders() {
    if (!inotify) return;
    const std::filesystem::path& root = book.directory();
    const bool before = watching;
    watching = ::inotify_add_watch(inotify.get(), root.c_str(), kChanges) >= 0;
    if (watching && !before) changed_at = clock.now_ns();  // it has just appeared
    std::error_code error;
    std::size_t folders = 0;
    for (std::filesystem::recursive_directory_iterator entry(root, error), end; !error && entry != end; entry.increment(error)) {
      std::error_code ignored;
      if (entry->is_directory(ignored) && ++folders <= kFoldersMax) ::inotify_add_watch(inotify.get(), entry->path().c_str(), kChanges);
    }
  }

  void reload() {
    first_change = changed_at = 0;
    const std::string before = book.current()->hash();
    if (auto done = book.reload(clock.now_ns()); !done) {
      log::error("rules: {}; the last good set stays in force", done.error().message);
      return;
    }
    const auto set = book.current();
    if (set->hash() != before) log::info("rules reloaded rules={} hash={} took_ms={:.1f}", set->rules().size(), set->hash(), book.state().reload_s * 1e3);
  }

  void loop(const std::stop_token& stop) {
    watch_folders();
    // One reload after the start: what was written between the first loading and the watching is seen, and what did not
    // change is then known, so that later ones are quick.
    changed_at = first_change = clock.now_ns();
    while (!stop.stop_requested()) {
      int timeout_ms = kLookAgainMs;
      if (changed_at != 0) {
        const std::int64_t due = std::min(changed_at + kSettleNs, first_change + kSettleNsMax);
        timeout_ms = static_cast<int>(std::max<std::int64_t>(0, (due - clock.now_ns() + kNsPerMs - 1) / kNsPerMs));
      }
      pollfd waits[] = {{.fd = wake.get(), .events = POLLIN, .revents = 0}, {.fd = inotify.get(), .events = POLLIN, .revents = 0}};
      ::poll(waits, inotify ? 2 : 1, timeout_ms);
      if (stop.stop_requested()) return;
      if ((waits[0].revents & POLLIN) != 0) {
        std::uint64_t asked = 0;
        (void)!::read(wake.get(), &asked, sizeof(asked));
        watch_folders();
        reload();
        continue;
      }
      const std::int64_t now = clock.now_ns();
      if (inotify && (waits[1].revents & POLLIN) != 0) {
        alignas(inotify_event) char bytes[16'384];
        (void)!::read(inotify.get(), bytes, sizeof(bytes));  // what changed does not matter: all is read
        changed_at = now;
        if (first_change == 0) first_change = now;
        watch_folders();
      } else if (!watching) {
        watch_folders();
        if (changed_at != 0 && first_change == 0) first_change = changed_at;
      }
      if (changed_at != 0 && (now - changed_at >= kSettleNs || now - first_change >= kSettleNsMax)) reload();
    }
  }
};

RuleWatch::RuleWatch(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}

Result<std::unique_ptr<RuleWatch>> RuleWatch::start(rules::RuleBook& book, const Clock& clock) {
  auto impl = std::make_unique<Impl>(book, clock);
  impl->wake = Fd(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!impl->wake) return fail_errno(errno, "make an event descriptor for the rules");
  impl->inotify = Fd(::inotify_init1(IN_CLOEXEC | IN_NONBLOCK));
  if (!impl->inotify) log::warn("watch '{}': {}; rules are reloaded by SIGHUP and `culprit rules apply` only", book.directory().string(), std::generic_category().message(errno));
  Impl* self = impl.get();
  impl->thread = std::jthread([self](const std::stop_token& stop) {
    ::pthread_setname_np(::pthread_self(), "rules");
    self->loop(stop);
  });
  return std::unique_ptr<RuleWatch>(new RuleWatch(std::move(impl)));
}

void RuleWatch::ask() {
  const std::uint64_t one = 1;
  (void)!::write(impl_->wake.get(), &one, sizeof(one));
}

RuleWatch::~RuleWatch() {
  impl_->thread.request_stop();
  ask();
}

}  // namespace culprit::app
