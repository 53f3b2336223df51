#!/usr/bin/env python3
"""ClickHouse's own words for its failure modes."""
import os
import time

from stage import Stage, find

CONFIG = """<yandex>
  <logger><level>warning</level><console>1</console></logger>
  <http_port>{http}</http_port><tcp_port>{tcp}</tcp_port><interserver_http_port>{peers}</interserver_http_port><listen_host>127.0.0.1</listen_host>
  <path>{folder}/data/</path><tmp_path>{folder}/tmp/</tmp_path><user_files_path>{folder}/files/</user_files_path><format_schema_path>{folder}/schemas/</format_schema_path>
  <users_config>users.xml</users_config><default_profile>default</default_profile><default_database>default</default_database>
  <mark_cache_size>10000000</mark_cache_size><max_concurrent_queries>{queries}</max_concurrent_queries>
  <merge_tree><parts_to_delay_insert>4</parts_to_delay_insert><parts_to_throw_insert>5</parts_to_throw_insert></merge_tree>
  <zookeeper><node><host>127.0.0.1</host><port>{keeper}</port></node><session_timeout_ms>1000</session_timeout_ms></zookeeper>
  <macros><shard>1</shard><replica>1</replica></macros>
</yandex>
"""
USERS = """<yandex><profiles><default><max_threads>1</max_threads></default></profiles>
<users><default><password></password><networks><ip>127.0.0.1</ip></networks><profile>default</profile><quota>default</quota></default></users><quotas><default/></quotas></yandex>
"""


def start_zookeeper(stage, data, port):
    stage.make(data)
    config = stage.write(f"{data}.cfg", f"tickTime=500\ndataDir={stage.folder}/{data}\nclientPort={port}\nclientPortAddress=127.0.0.1\n")
    process = stage.start(f"{data}.log", "java", "-Xmx64m", "-Dzookeeper.admin.enableServer=false", "-cp", "/usr/share/java/zookeeper.jar:/usr/share/java/slf4j-simple.jar",
                          "org.apache.zookeeper.server.quorum.QuorumPeerMain", config)
    stage.listens(port)
    return process


with Stage("clickhouse", "clickhouse-server", user="clickhouse") as stage:
    http, tcp = stage.port(), stage.port()
    for name in ("data", "tmp", "files", "schemas"):
        stage.make(name)
    keeper_port = stage.port()
    keeper = start_zookeeper(stage, "keeper", keeper_port)
    stage.write("config.xml", CONFIG.format(http=http, tcp=tcp, folder=stage.folder, queries=2, keeper=keeper_port, peers=stage.port()))
    stage.write("users.xml", USERS)

    def start_server():
        process = stage.start("server.log", "clickhouse-server", f"--config-file={stage.folder}/config.xml", env=os.environ | {"TZ": "UTC"})
        stage.listens(tcp, 60)
        return process

    server = start_server()

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
    ask("CREATE TABLE default.copied(day Date, id UInt32) ENGINE = ReplicatedMergeTree('/clickhouse/copied', '{replica}', day, id, 8192)")
    insert = "INSERT INTO default.copied VALUES ('2026-11-26', 1)"
    stage.end(keeper)
    stage.line("readonly-replica", "log-readonly", stage.until(lambda: find(ask(insert), "readonly mode"), 30))
    line = stage.wait("server.log", "<Warning> .*ZooKeeper session has expired", 30)
    stage.line("readonly-replica", "log-session", line and line[line.index("<Warning>"):])
    raise SystemExit(1 if stage.failed else 0)
