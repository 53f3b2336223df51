-- Incidents, what people said about them, and the topology. Times are wall nanoseconds since the epoch.
CREATE TABLE incident(
  id INTEGER PRIMARY KEY AUTOINCREMENT,            -- AUTOINCREMENT: an id is never used twice
  service TEXT NOT NULL,
  opened_ns INTEGER NOT NULL,
  updated_ns INTEGER NOT NULL,
  closed_ns INTEGER NOT NULL DEFAULT 0,            -- 0 = open
  state TEXT NOT NULL CHECK(length(state) BETWEEN 1 AND 32),
  headline TEXT NOT NULL,
  explanation TEXT NOT NULL CHECK(json_valid(explanation))) STRICT;
CREATE INDEX incident_updated ON incident(updated_ns);
CREATE INDEX incident_state ON incident(state, updated_ns);

CREATE TABLE feedback(
  incident INTEGER NOT NULL REFERENCES incident(id) ON DELETE CASCADE,
  rank INTEGER NOT NULL CHECK(rank BETWEEN 1 AND 1000),
  verdict TEXT NOT NULL CHECK(verdict IN ('right', 'wrong', 'partly')),
  failure_mode TEXT NOT NULL,
  entity TEXT NOT NULL,
  note TEXT NOT NULL,
  time_ns INTEGER NOT NULL,
  PRIMARY KEY(incident, rank)) STRICT, WITHOUT ROWID;
-- Verdicts outlive the incident that they were given for: priors must not forget with retention.
CREATE TABLE verdict(
  failure_mode TEXT PRIMARY KEY,
  right INTEGER NOT NULL DEFAULT 0,
  wrong INTEGER NOT NULL DEFAULT 0,
  partly INTEGER NOT NULL DEFAULT 0) STRICT, WITHOUT ROWID;

CREATE TABLE topo_node(
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  kind INTEGER NOT NULL,                           -- NodeKind
  key TEXT NOT NULL,
  attributes TEXT NOT NULL CHECK(json_valid(attributes)),
  attributes_ns INTEGER NOT NULL,                  -- when they were seen: newer replaces older
  UNIQUE(kind, key)) STRICT;
CREATE TABLE topo_edge(
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  src INTEGER NOT NULL REFERENCES topo_node(id) ON DELETE CASCADE,
  dst INTEGER NOT NULL REFERENCES topo_node(id) ON DELETE CASCADE,
  kind INTEGER NOT NULL,                           -- EdgeKind
  UNIQUE(src, dst, kind)) STRICT;
CREATE INDEX topo_edge_dst ON topo_edge(dst);

-- When each was seen. The intervals of one owner neither overlap nor come closer than the gap.
CREATE TABLE node_interval(
  owner INTEGER NOT NULL REFERENCES topo_node(id) ON DELETE CASCADE,
  first_ns INTEGER NOT NULL,
  last_ns INTEGER NOT NULL CHECK(last_ns >= first_ns),
  PRIMARY KEY(owner, first_ns)) STRICT, WITHOUT ROWID;
CREATE TABLE edge_interval(
  owner INTEGER NOT NULL REFERENCES topo_edge(id) ON DELETE CASCADE,
  first_ns INTEGER NOT NULL,
  last_ns INTEGER NOT NULL CHECK(last_ns >= first_ns),
  PRIMARY KEY(owner, first_ns)) STRICT, WITHOUT ROWID;
CREATE INDEX node_interval_last ON node_interval(last_ns);
CREATE INDEX edge_interval_last ON edge_interval(last_ns);
