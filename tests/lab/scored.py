"""The scored run: learn, break, ask, heal, wait for normal, next fault."""
import json
import time

import score
from session import Loaded, say

NORMAL_ERRORS, NORMAL_SECONDS, NORMAL_WAIT_S = 0.01, 5, 120


def run(options, chosen):
    results = []
    with Loaded(options, with_culprit=True) as lab, open(lab.system.logs / "answers.jsonl", "w", encoding="utf-8") as trail:
        say(f"system, load and culprit run; learning normal for {options.learn:.0f} s")
        time.sleep(options.learn)
        quiet_since = time.time() - options.learn
        if not options.json:
            print(score.HEADER, flush=True)
        for fault in chosen * options.repeat:
            result = one(options, lab, fault, trail, quiet_since)
            results.append(result)
            print(json.dumps(result) if options.json else score.row(result), flush=True)
            quiet_since = wait_for_normal(options, lab, fault)
    total = score.summary(results)
    if options.json:
        print(json.dumps(total))
    else:
        print(f"truth first in {total['first']} of {total['faults']}, in the top 3 in {total['top3']} (per repetition), "
              f"first right answer after {total['seconds_to_first']['median']} s (median), false incidents {total['false_incidents']}; "
              f"a rule named it in {total['rule_named']} of {total['with_rule']} that rules know")
    enough = all(first >= 0.8 * total["faults"] for first in total["first"]) and all(top3 == total["faults"] for top3 in total["top3"])
    return 0 if enough and not total["false_incidents"] else 1


def one(options, lab, fault, trail, quiet_since):
    """Injects one fault and scores the answers; heals in every case."""
    before = {incident["incident"] for incident in lab.culprit.incidents()}
    false = opened_since(lab.culprit, quiet_since)
    cpu, _ = lab.culprit.usage()
    injected = time.time()
    try:
        fault.inject(lab.system.env)
        result = score.watch(lab.culprit, fault, injected, options.within, options.since, trail)
    finally:
        end = time.time()
        fault.heal(lab.system.env)
    cpu_end, rss = lab.culprit.usage()
    opened = [incident["incident"] for incident in lab.culprit.incidents() if incident["incident"] not in before]
    normal, hurt = lab.numbers(injected - 10, injected), lab.numbers(injected + 2, end)
    return {"fault": fault.name} | result | {
        "false_incidents": len(false), "incidents": opened,
        "overhead": {"cpu_cores": round((cpu_end - cpu) / (time.time() - injected), 4), "rss_mb": round(rss / 2**20, 1)},
        "symptom": {"normal": normal, "during": hurt}}


def opened_since(culprit, moment):
    """Incidents opened after this wall-clock time. Times of the API are RFC 3339 in UTC, so they compare as text."""
    text = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(moment))
    return [incident for incident in culprit.incidents() if (incident.get("opened") or "") >= text]


def wait_for_normal(options, lab, fault):
    """After a heal: until users are served as before and no incident is open. Returns when quiet began."""
    healed = time.time()
    while True:
        time.sleep(1)
        now = time.time()
        recent = lab.numbers(now - NORMAL_SECONDS, now)
        served = recent["seconds"] >= NORMAL_SECONDS - 1 and recent["errors"] <= NORMAL_ERRORS
        still_open = lab.culprit.open_incidents()
        if served and not still_open and now - healed >= options.gap - 15:
            break
        if now - healed > NORMAL_WAIT_S:
            why = f"incidents {[incident['incident'] for incident in still_open]} are still open" if still_open else "the load still fails"
            say(f"{fault.name}: {NORMAL_WAIT_S} s after the heal {why}; going on")
            break
    quiet_since = time.time()
    time.sleep(15)  # an incident opened in here counts as false for the next fault
    return quiet_since


def healthy(options):
    """No fault: every incident opened after learning is a false one."""
    with Loaded(options, with_culprit=True) as lab:
        say(f"learning normal for {options.learn:.0f} s, then {options.healthy:.0f} s of healthy load")
        time.sleep(options.learn)
        begin, (cpu, _) = time.time(), lab.culprit.usage()
        time.sleep(options.healthy)
        false = opened_since(lab.culprit, begin - options.learn)
        cpu_end, rss = lab.culprit.usage()
        result = {"healthy_seconds": options.healthy, "false_incidents": len(false),
                  "headlines": [incident.get("headline") for incident in false],
                  "overhead": {"cpu_cores": round((cpu_end - cpu) / (time.time() - begin), 4), "rss_mb": round(rss / 2**20, 1)},
                  "load": lab.numbers(begin, time.time())}
    if options.json:
        print(json.dumps(result))
    else:
        print(f"{options.healthy:.0f} s of healthy load: {len(false)} incident(s) opened{''.join(chr(10) + '  ' + str(line) for line in result['headlines'])}")
        print(f"overhead: {result['overhead']['cpu_cores']} cores, {result['overhead']['rss_mb']} MB; load: {result['load']}")
    return 1 if false else 0
