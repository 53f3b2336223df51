// Draft: a candidate while evidence is gathered. Generators make drafts (causes/*.cpp), rank.cpp orders them.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "daemon/explain/explanation.h"
#include "daemon/explain/failure_modes.h"
#include "daemon/explain/scene.h"
#include "daemon/explain/weights.h"

namespace culprit::explain {

struct Draft {
  std::string mode;     // id of the failure mode
  std::string entity;
  std::string service;  // that is blamed
  std::int64_t pid = 0;
  std::string process;
  std::string title;
  std::vector<std::string> also;   // besides the table's
  std::vector<Evidence> evidence;
  std::optional<Trigger> trigger;
  double prior = 0;
  bool generic = false;            // says where, not what
  bool change = false;             // the change itself is the cause
  bool judged = false;             // what people said of it is in its evidence already: of a rule, of a sign in a log
  std::int64_t onset_ns = 0;       // when the cause began; 0 = unknown

  Draft& add(double log_odds, std::int64_t time_ns, std::string text, std::vector<std::string> sources = {});
  double score() const;
  double support() const;  // the positive part of the evidence, without location
};

using Drafts = std::vector<Draft>;

// As the packs say: the mode tells that something fails, not why; the first mode brings the second about.
bool is_effect(const Scene& scene, std::string_view mode);
bool brings_about(const Scene& scene, std::string_view cause, std::string_view effect);

// A draft that blames a service.
Draft draft_of(const Scene& scene, std::string_view mode, std::string_view service);
// ... a process of it.
void blame_process(const Scene& scene, Draft& draft, std::int64_t pid);
// Evidence for or against that the trouble stops at `service`.
void locate(const Scene& scene, Draft& draft, std::string_view service);
// The same for causes that act on several services at once (a full CPU, a slow disk): the best of them counts.
void locate_any(const Scene& scene, Draft& draft, const std::vector<std::string>& services);

// So much healthy past [s] must there be before "it was never called before" says anything.
inline constexpr double kPastKnownS = 30;

// Words.
std::string per_second(double rate);       // "12/s"
std::string percent(double share);         // "97 %"
std::string from_to(double normal, double now, std::string (*show)(double));  // "1.8 s (normal 20 ms)"
std::string short_line(std::string_view text, std::size_t length_max = 140);

// The generators. Each looks at one family of causes, whatever the services are called.
void causes_process_life(const Scene& scene, Drafts& drafts);
void causes_memory(const Scene& scene, Drafts& drafts);
void causes_cpu(const Scene& scene, Drafts& drafts);
void causes_disk_space(const Scene& scene, Drafts& drafts);
void causes_disk_speed(const Scene& scene, Drafts& drafts);
void causes_limits(const Scene& scene, Drafts& drafts);
void causes_logs(const Scene& scene, Drafts& drafts);
void causes_database(const Scene& scene, Drafts& drafts);
void causes_network(const Scene& scene, Drafts& drafts);
void causes_change(const Scene& scene, Drafts& drafts);
void causes_load(const Scene& scene, Drafts& drafts);
void causes_callee(const Scene& scene, Drafts& drafts);
void causes_rules(const Scene& scene, Drafts& drafts);

}  // namespace culprit::explain
