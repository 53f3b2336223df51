// Naming: what a person would call the service that a process belongs to, from its control group, executable
// and script. docs/events.md gives the rules; the first that yields a name wins.
#pragma once

#include <span>
#include <string>
#include <string_view>

#include "daemon/track/facts.h"
#include "daemon/track/tracker.h"

namespace culprit::track {

enum class NamedBy { Nothing, Rule, Unit, Container, Cgroup, Script, Executable };

struct ServiceName {
  std::string name;
  NamedBy by = NamedBy::Nothing;
  std::string path{};  // of the cgroup that gave the name
};

// Name that a cgroup path gives: "x.service" -> x, a container -> "<runtime>-<12 hex digits>", else the last
// component. Nothing for the root, slices, scopes of sessions and user managers.
// Did somebody choose this name for the service (unit, container, cgroup, rule)?
inline bool named(NamedBy by) {
  return by == NamedBy::Rule || by == NamedBy::Unit || by == NamedBy::Container || by == NamedBy::Cgroup;
}

ServiceName name_of_cgroup(std::string_view path);

// For a second cgroup of the same last component: "/b/shop" -> "shop@b".
std::string qualified_name(std::string_view name, std::string_view path);

// "/usr/bin/python3.11" -> "python3.11"; without " (deleted)".
std::string_view base_name(std::string_view path);

// Is this executable an interpreter or virtual machine, whose program is a script or jar?
bool is_interpreter(std::string_view exe);

// The script, module, jar or main class of an interpreter's command line; empty if there is none.
std::string script_of(std::string_view exe, std::span<const std::string> cmdline);

// "/srv/shop/app.py" -> "app"; "shop-1.2.jar" -> "shop": also without a version at its end.
std::string name_of_script(std::string_view script);

// The service of a process. `ignored`: globs of cgroup paths that name nothing.
ServiceName name_of_process(const ProcessFacts& facts, std::span<const std::string> ignored);

// Does the process fit all fields that are set? `listens` are its ports.
struct Candidate {
  std::uint32_t pid = 0;
  const ProcessFacts* facts = nullptr;
  std::string_view service;
  std::span<const std::uint16_t> ports;
};
bool matches(const Match& match, const Candidate& candidate);

// What of a command line tells one release from another: of a script all its arguments, else only what looks
// like a version (many servers write status into their command line).
std::string release_of_cmdline(const ProcessFacts& facts);

}  // namespace culprit::track
