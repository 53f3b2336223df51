// How jemalloc gives out memory to our programs; it looks for this name when a program starts (jemalloc(3), TUNING).
//
// One arena: batches are made on one thread and freed on the next, and with an arena a thread each would keep its peak and touch fresh
// memory where another has some to spare. Huge pages, also where the kernel gives them only to who asks: they take a twelfth of ingest's
// CPU time off and add 10 MB to an idle daemon. What an incident's rankings leave free goes back to the kernel within seconds.
extern "C" {
extern const char* malloc_conf;
const char* malloc_conf = "narenas:1,dirty_decay_ms:5000,muzzy_decay_ms:0,thp:always";
}
