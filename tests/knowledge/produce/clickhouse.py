#!/usr/bin/env python3
"""ClickHouse's own words for its failure modes."""
import os
import time

from stage import Stage, find

CONFIG = """<yandex>
  <logger><level>warning</level><console>1</console></logger>
  <http_port>{http}</http_port><tcp_port>{tcp}</tcp_port><listen_host>127.0.0.1</listen_host>
  <path>{folder}/data/</path><tmp_path>{folder}/tmp/</tmp_path><user_files_path>{folder}/files/</user_files_path><format_schema_path>{folder}/schemas/</format_schema_path>
  <users_config>users.xml</users_config><default_profile>default</default_profile><default_database>default</default_database>
  <mark_cache_size>10000000</mark_cache_size><max_concurrent_queries>{queries}</max_concurrent_queries>
  <merge_tree><parts_to_delay_insert>4</parts_to_delay_insert><parts_to_throw_insert>5</parts_to_throw_insert></merge_tree>
  <zookeeper><node><host>127.0.0.1</host><port>{nobody}</port></node><session_timeout_ms>1000</session_timeout_ms></zookeeper>
  <macros><shard>1</shard><replica>1</replica></macros>
</yandex>
"""
USERS = """<yandex><profiles><default><max_threads>1</max_threads></default></profiles>
<users><default><password></password><networks><ip>127.0.0.1</ip></networks><profile>default</profile><quota>default</quota></default></users><quotas><default/></quotas></yandex>
"""

with Stage("clickhouse", "clickhouse-server", user="clickhouse") as stage:
    http, tcp = stage.port(), stage.port()
    for name in ("data", "tmp", "files", "schemas"):
        stage.make(name)
    stage.write("config.xml", CONFIG.format(http=http, tcp=tcp, folder=stage.folder, queries=2, nobody=stage.port()))
    stage.write("users.xml", USERS)
    stage.start("server.log", "clickhouse-server", f"--config-file={stage.folder}/config.xml", env=os.environ | {"TZ": "UTC"})
    stage.listens(tcp, 60)

    def ask(query, *words):
        return stage.run("clickhouse-client", "--host=127.0.0.1", f"--port={tcp}", *words, f"--query={query}")

    def answer(mode, symptom, said, pattern):
        line = find(said, pattern)
        # The client puts "Received exception from server:" before it on a line of its own.
        stage.line(mode, symptom, line)

    answer("memory-limit", "log-limit", ask("SELECT groupArray(number) FROM (SELECT number FROM system.numbers LIMIT 5000000)", "--max_memory_usage=2000000"), "Memory limit")
    ask("CREATE TABLE default.items(day Date, id UInt32) ENGINE = MergeTree(day, id, 8192)")
    ask("SYSTEM STOP MERGES")
    said = "".join(stage.run("clickhouse-client", "--host=127.0.0.1", f"--port={tcp}", "--query=INSERT INTO default.items FORMAT CSV", input=f"2026-11-26,{i}\n") for i in range(12))
    answer("too-many-parts", "log-parts", said, "Too many parts")
    sleepers = [stage.start("sleep.out", "clickhouse-client", "--host=127.0.0.1", f"--port={tcp}", "--query=SELECT sleep(3)") for _ in range(2)]
    time.sleep(1.5)
    answer("simultaneous-queries", "log-many", ask("SELECT 1", "--queue_max_wait_ms=0"), "Too many simultaneous")
    for process in sleepers:
        stage.end(process)
    raise SystemExit(1 if stage.failed else 0)
