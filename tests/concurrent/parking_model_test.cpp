// The parking protocol of the channel without a lock (daemon/concurrent/direct.h), as a small state machine of
// which every interleaving is tried: one sender, one receiver, a ring of one or two slots, a close, and
// waits that may be given up at any moment. Each step is one sequentially consistent operation, or one short
// stretch under the channel's lock, as in the code.
//
// Claims: in no reachable state does everybody sleep while there is something to do (no lost wake-up), every
// item that was sent is received, none twice, and the receiver ends by learning of the close.
#include <gtest/gtest.h>

#include <compare>
#include <set>
#include <vector>

namespace {

enum class Step : int {
  Start,    // put or take; look at the state
  Notify,   // published: look at the peer's flag
  Wake,     // saw it: lock, wake, unlock
  SetFlag,  // nothing to do: lock, queue, set the flag
  Recheck,  // look at the index once more, still under the lock
  Asleep,
  Cancel,   // gave up: lock, leave the queue if still in it
  Ended,
};

struct Side {
  Step step = Step::Start;
  bool flag = false;    // parked flag = in the queue
  bool woken = false;   // the parker's word
  auto operator<=>(const Side&) const = default;
};

struct State {
  Side sender, receiver;
  int sent = 0, received = 0;
  bool closed = false;
  int lock = 0;  // 0 free, 1 sender's, 2 receiver's
  int cancels = 0;
  auto operator<=>(const State&) const = default;
};

struct Model {
  int capacity;
  int items;
  bool recheck = true;  // the steps that the protocol stands on; a test takes them out, one by one
  bool notify = true;
  bool wake_on_close = true;
  int cancels = 2;

  bool may_send(const State& s) const { return s.sent - s.received < capacity; }
  bool may_receive(const State& s) const { return s.received < s.sent || s.closed; }

  // All states that one step of one side leads to.
  std::vector<State> next(const State& state) const {
    std::vector<State> all;
    advance(state, true, all);
    advance(state, false, all);
    return all;
  }

  void advance(const State& from, bool sending, std::vector<State>& all) const {
    State to = from;
    Side& me = sending ? to.sender : to.receiver;
    Side& peer = sending ? to.receiver : to.sender;
    const int id = sending ? 1 : 2;
    auto may_go = [&] { return sending ? may_send(to) : may_receive(to); };
    switch (me.step) {
      case Step::Start:
        if (sending && to.sent == items) {  // close: under the lock, sets the bit and wakes
          if (to.lock != 0) return;
          to.closed = true;
          if (wake_on_close && peer.flag) {
            peer.flag = false;
            peer.woken = true;
          }
          me.step = Step::Ended;
        } else if (!sending && to.received == to.sent && to.closed) {
          me.step = Step::Ended;
        } else if (sending ? may_send(to) : to.received < to.sent) {
          ++(sending ? to.sent : to.received);
          me.step = notify ? Step::Notify : Step::Start;
        } else {
          me.step = Step::SetFlag;
        }
        break;
      case Step::Notify: me.step = peer.flag ? Step::Wake : Step::Start; break;
      case Step::Wake:
        if (to.lock != 0) return;
        if (peer.flag) {
          peer.flag = false;
          peer.woken = true;
        }
        me.step = Step::Start;
        break;
      case Step::SetFlag:
        if (to.lock != 0) return;
        to.lock = id;
        me.flag = true;
        me.woken = false;
        me.step = Step::Recheck;
        break;
      case Step::Recheck:
        if (recheck && may_go()) {
          me.flag = false;
          me.step = Step::Start;
        } else {
          me.step = Step::Asleep;
        }
        to.lock = 0;
        break;
      case Step::Asleep:
        if (to.cancels < cancels) {  // a timeout may come at any moment
          State given_up = to;
          (sending ? given_up.sender : given_up.receiver).step = Step::Cancel;
          ++given_up.cancels;
          all.push_back(given_up);
        }
        if (!me.woken) return;
        me.step = Step::Start;
        break;
      case Step::Cancel:
        if (to.lock != 0) return;
        me.flag = false;  // or it was woken meanwhile: then it looks again as well
        me.step = Step::Start;
        break;
      case Step::Ended: return;
    }
    all.push_back(to);
  }

  struct Verdict {
    std::size_t states = 0;
    std::size_t stuck = 0;  // nobody can move, and somebody has not ended
    bool wrong = false;     // an impossible count
    std::size_t ends = 0;
  };
  Verdict explore() const {
    Verdict verdict;
    std::set<State> seen{State{}};
    std::vector<State> open{State{}};
    while (!open.empty()) {
      const State state = open.back();
      open.pop_back();
      ++verdict.states;
      verdict.wrong |= state.received > state.sent || state.sent > items || state.sent - state.received > capacity;
      const std::vector<State> following = next(state);
      // A timeout that may still come does not excuse a sleep: without it this state must go on as well.
      State without = state;
      without.cancels = cancels;
      const bool ended = state.sender.step == Step::Ended && state.receiver.step == Step::Ended;
      if (ended) {
        ++verdict.ends;
        verdict.wrong |= state.received != items;
      } else if (next(without).empty()) {
        ++verdict.stuck;
      }
      for (const State& each : following) {
        if (seen.insert(each).second) open.push_back(each);
      }
    }
    return verdict;
  }
};

TEST(ParkingModelTest, NoWakeUpIsLost) {
  for (const int capacity : {1, 2, 3}) {
    for (const int items : {0, 1, 4, 6}) {
      const Model::Verdict verdict = Model{.capacity = capacity, .items = items}.explore();
      SCOPED_TRACE(testing::Message() << capacity << " slots, " << items << " items, " << verdict.states << " states");
      EXPECT_EQ(verdict.stuck, 0U);
      EXPECT_FALSE(verdict.wrong);
      EXPECT_GT(verdict.ends, 0U);
    }
  }
}

// The search finds what it looks for: without each of these steps somebody sleeps for ever.
TEST(ParkingModelTest, FindsTheLostWakeUpOfABrokenProtocol) {
  EXPECT_GT((Model{.capacity = 1, .items = 4, .recheck = false}.explore().stuck), 0U);
  EXPECT_GT((Model{.capacity = 1, .items = 4, .notify = false}.explore().stuck), 0U);
  EXPECT_GT((Model{.capacity = 1, .items = 4, .wake_on_close = false}.explore().stuck), 0U);
}

}  // namespace
