// The parking protocol of the channel without a lock (daemon/concurrent/direct.h), as a small state machine of
// which every interleaving is tried: one sender or two with a ring each, one receiver, few slots, a close, and
// waits that may be given up at any moment. Each step is one operation, or one short stretch under the channel's lock;
// they happen in one order for all, which is what the fences of the code see to where it matters (fence.h).
//
// Claims: in no reachable state does everybody sleep while there is something to do (no lost wake-up), every
// item that was sent is received, none twice, and the receiver ends by learning of the close.
#include <gtest/gtest.h>

#include <array>
#include <compare>
#include <set>
#include <utility>
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
  std::size_t took = 0;  // the receiver: the lane it took from last, whose sender it wakes
  auto operator<=>(const Side&) const = default;
};

constexpr int kSendersMax = 2;

struct State {
  std::array<Side, kSendersMax> senders;
  Side receiver;
  std::array<int, kSendersMax> sent{}, received{};  // of each lane
  bool closed = false;
  int lock = 0;  // 0 free, else who holds it, from 1
  int cancels = 0;
  auto operator<=>(const State&) const = default;
};

struct Model {
  int capacity;
  int items;  // of each sender
  int senders = 1;
  bool recheck = true;  // the steps that the protocol stands on; a test takes them out, one by one
  bool notify = true;
  bool wake_on_close = true;
  int cancels = 2;

  bool may_receive(const State& s) const { return s.received != s.sent || s.closed; }

  // All states that one step of one side leads to.
  std::vector<State> next(const State& state) const {
    std::vector<State> all;
    for (int who = 0; who < senders; ++who) send(state, who, all);
    receive(state, all);
    return all;
  }

  void send(const State& from, int who, std::vector<State>& all) const {
    const auto lane = static_cast<std::size_t>(who);
    const bool fits = from.sent[lane] - from.received[lane] < capacity;
    if (from.senders[lane].step != Step::Start) return wait(from, from.receiver, lane, who + 1, fits, all);
    State to = from;
    Side& me = to.senders[lane];
    if (to.sent[lane] != items) {
      if (fits) {
        ++to.sent[lane];
        me.step = notify ? Step::Notify : Step::Start;
      } else {
        me.step = Step::SetFlag;
      }
    } else {
      me.step = Step::Ended;
      bool last = true;
      for (int i = 0; i < senders; ++i) last &= to.senders[static_cast<std::size_t>(i)].step == Step::Ended;
      if (last) {  // close: under the lock, sets the bit and wakes
        if (to.lock != 0) return;
        to.closed = true;
        if (wake_on_close) wake(to.receiver);
      }
    }
    all.push_back(to);
  }

  // The receiver may take from any lane that has something.
  void receive(const State& from, std::vector<State>& all) const {
    if (from.receiver.step != Step::Start) {
      return wait(from, from.senders[from.receiver.took], kSendersMax, senders + 1, may_receive(from), all);
    }
    State to = from;
    bool took = false;
    for (std::size_t lane = 0; lane < kSendersMax; ++lane) {
      if (from.received[lane] == from.sent[lane]) continue;
      State taken = from;
      ++taken.received[lane];
      taken.receiver.took = lane;
      taken.receiver.step = notify ? Step::Notify : Step::Start;
      all.push_back(taken);
      took = true;
    }
    if (took) return;
    to.receiver.step = to.closed ? Step::Ended : Step::SetFlag;
    all.push_back(to);
  }

  static void wake(Side& side) {
    side.woken |= side.flag;
    side.flag = false;
  }

  // The steps that are the same for all: `index` is the sender's, or kSendersMax for the receiver, `peer` whom it wakes.
  void wait(const State& from, const Side& peer, std::size_t index, int id, bool may_go, std::vector<State>& all) const {
    State to = from;
    Side& me = index < kSendersMax ? to.senders[index] : to.receiver;
    switch (me.step) {
      case Step::Notify: me.step = peer.flag ? Step::Wake : Step::Start; break;
      case Step::Wake:
        if (to.lock != 0) return;
        wake(index < kSendersMax ? to.receiver : to.senders[to.receiver.took]);
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
        if (recheck && may_go) {
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
          (index < kSendersMax ? given_up.senders[index] : given_up.receiver).step = Step::Cancel;
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
      case Step::Start:
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
      for (std::size_t lane = 0; lane < kSendersMax; ++lane) {
        const int length = state.sent[lane] - state.received[lane];
        verdict.wrong |= length < 0 || length > capacity || state.sent[lane] > items;
      }
      const std::vector<State> following = next(state);
      // A timeout that may still come does not excuse a sleep: without it this state must go on as well.
      State without = state;
      without.cancels = cancels;
      bool ended = state.receiver.step == Step::Ended;
      for (int i = 0; i < senders; ++i) ended &= state.senders[static_cast<std::size_t>(i)].step == Step::Ended;
      if (ended) {
        ++verdict.ends;
        verdict.wrong |= state.received != state.sent;
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

TEST(ParkingModelTest, NoWakeUpIsLostBetweenLanes) {
  for (const int capacity : {1, 2}) {
    for (const int items : {1, 2}) {
      const Model::Verdict verdict = Model{.capacity = capacity, .items = items, .senders = 2}.explore();
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
  EXPECT_GT((Model{.capacity = 1, .items = 2, .senders = 2, .recheck = false}.explore().stuck), 0U);
  EXPECT_GT((Model{.capacity = 1, .items = 2, .senders = 2, .notify = false}.explore().stuck), 0U);
}

// Closing beside a put, with somebody else closing: a batch is in before the end, or refused.
struct Closing {
  enum class Put : int { Start, Said, Looked, Published, Refused };  // `putting`; `closed` seen false; index stored
  enum class Close : int { Start, Said, Final };
  enum class Take : int { Start, SawOpen, SawFinal, Ended };
  struct State {
    Put put = Put::Start;
    Close close = Close::Start;
    Take take = Take::Start;
    bool putting = false, closed = false, final = false;
    int sent = 0, received = 0;
    auto operator<=>(const State&) const = default;
  };

  bool waits_for_puts = true;  // what the protocol stands on; the test takes them out, one by one
  bool says_putting = true;
  bool final_first = true;

  std::vector<State> next(const State& from) const {
    std::vector<State> all;
    State to = from;
    switch (from.put) {
      case Put::Start:
        to.putting = says_putting;
        to.put = Put::Said;
        break;
      case Put::Said: to.put = from.closed ? Put::Refused : Put::Looked; break;
      case Put::Looked:
        ++to.sent;
        to.put = Put::Published;
        break;
      case Put::Published: to.put = to.sent == 2 ? Put::Refused : Put::Start; [[fallthrough]];
      case Put::Refused: to.putting = false; break;
    }
    all.push_back(to);
    to = from;
    if (from.close == Close::Start) {
      to.closed = true;
      to.close = Close::Said;
    } else if (from.close == Close::Said && (!from.putting || !waits_for_puts)) {
      to.final = true;
      to.close = Close::Final;
    }
    all.push_back(to);
    to = from;
    const bool empty = from.sent == from.received;
    switch (from.take) {
      case Take::Start:
        if (final_first) {
          to.take = from.final ? Take::SawFinal : Take::SawOpen;
        } else if (empty) {
          to.take = Take::SawFinal;  // looks at the index first, and only then whether that was the end
        } else {
          ++to.received;
        }
        break;
      case Take::SawOpen:
        to.received += empty ? 0 : 1;
        to.take = Take::Start;
        break;
      case Take::SawFinal:
        if (final_first) {
          to.received += empty ? 0 : 1;
          to.take = empty ? Take::Ended : Take::Start;
        } else {
          to.take = from.final ? Take::Ended : Take::Start;
        }
        break;
      case Take::Ended: break;
    }
    all.push_back(to);
    return all;
  }

  // How many ends lose an item, of how many.
  std::pair<std::size_t, std::size_t> explore() const {
    std::size_t lost = 0, ends = 0;
    std::set<State> seen{State{}};
    std::vector<State> open{State{}};
    while (!open.empty()) {
      const State state = open.back();
      open.pop_back();
      if (state.take == Take::Ended && state.put == Put::Refused && !state.putting) {
        ++ends;
        lost += state.sent != state.received ? 1 : 0;
      }
      for (const State& each : next(state)) {
        if (seen.insert(each).second) open.push_back(each);
      }
    }
    return {lost, ends};
  }
};

TEST(ClosingModelTest, NoItemIsLost) {
  const auto [lost, ends] = Closing{}.explore();
  EXPECT_EQ(lost, 0U);
  EXPECT_GT(ends, 0U);
}
TEST(ClosingModelTest, FindsTheItemLostByABrokenProtocol) {
  EXPECT_GT((Closing{.waits_for_puts = false}.explore().first), 0U);
  EXPECT_GT((Closing{.says_putting = false}.explore().first), 0U);
  EXPECT_GT((Closing{.final_first = false}.explore().first), 0U);
}

}  // namespace
