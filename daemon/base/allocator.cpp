// How jemalloc gives out memory to our programs; it looks for this name when a program starts (jemalloc(3), TUNING).
//
// One arena: batches are made on one thread and freed on the next, and with an arena a thread each would keep its peak and touch fresh
// memory where another has some to spare. What an incident's rankings leave free goes back to the kernel within seconds.
extern "C" {
extern const char* malloc_conf;
const char* malloc_conf = "narenas:1,dirty_decay_ms:5000,muzzy_decay_ms:0";
}
