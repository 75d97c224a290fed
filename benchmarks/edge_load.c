/* Load on a TLS relay over loopback: real first bytes (a ClientHello from a file), then raw bytes, so that endpoints cost little.
 *
 *   edge_load serve PORT                                     the far end: skips the hello, reads 16 bytes of order, obeys
 *   edge_load bulk PORT HELLO up|down STREAMS MIB_EACH       -> seconds MB/s
 *   edge_load pingpong PORT HELLO CONNECTIONS SECONDS        -> round trips a second, p50 and p99 in us (1 byte each way)
 *   edge_load connections PORT HELLO IN_FLIGHT SECONDS       -> connections a second, p50 and p99 in us, errors
 *   edge_load paced PORT HELLO INTERVAL_MS SECONDS           -> one connection at a time: count, p50, p99, longest in us, errors
 *   edge_load idle PORT HELLO COUNT                          -> "ready SECONDS", then holds until standard input ends
 *   edge_load dribble PORT HELLO COUNT                       -> a byte a second each: "open SECONDS", then "closed COUNT SECONDS"
 *   edge_load stall PORT HELLO MIB                           -> "asked" for so much, then reads nothing until standard input ends
 *
 * Orders: 'E' echo, 'S' sink so many bytes and answer with one, 'R' source so many bytes. Sinks drop bytes in the kernel (MSG_TRUNC).
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define BIG (1 << 20)
#define ORDER 16
#define SOURCES 16 /* addresses 127.0.0.2 and on, so that no pair of addresses runs out of ports */

typedef struct {
    int fd, state, order_length, armed;
    uint64_t skip, left;
    char order;
    unsigned char header[ORDER], record[5];
    double begun;
} Connection;

static unsigned char hello[16384], *big;
static int hello_length;

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec * 1e-9;
}

static void die(const char *what) {
    perror(what);
    exit(1);
}

static void fail(const char *what) {
    printf("%s\n", what);
    exit(2);
}

static void no_delay(int fd) {
    int on = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
}

static int dial(int port, int blocking) {
    static int count;
    int on = 1, fd = socket(AF_INET, SOCK_STREAM | (blocking ? 0 : SOCK_NONBLOCK), 0);
    if (fd < 0) die("socket");
    no_delay(fd);
    struct sockaddr_in from = {.sin_family = AF_INET}, to = {.sin_family = AF_INET, .sin_port = htons(port)};
    from.sin_addr.s_addr = htonl(0x7f000002 + count++ % SOURCES);
    setsockopt(fd, SOL_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof on);
    if (bind(fd, (void *)&from, sizeof from)) die("bind");
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (connect(fd, (void *)&to, sizeof to) < 0 && errno != EINPROGRESS) die("connect");
    return fd;
}

static int opening(unsigned char *into, char order, uint64_t count) {
    memcpy(into, hello, hello_length);
    memset(into + hello_length, 0, ORDER);
    into[hello_length] = order;
    memcpy(into + hello_length + 8, &count, 8);
    return hello_length + ORDER;
}

static void write_all(int fd, const unsigned char *bytes, size_t count) {
    while (count) {
        ssize_t written = write(fd, bytes, count);
        if (written < 0) die("write");
        bytes += written;
        count -= written;
    }
}

static void open_with(int fd, char order, uint64_t count) {
    unsigned char bytes[sizeof hello + ORDER];
    write_all(fd, bytes, opening(bytes, order, count));
}

static int rising(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

static void watch(int epoll, int how, Connection *c, uint32_t events) {
    struct epoll_event event = {.events = events, .data.ptr = c};
    if (epoll_ctl(epoll, how, c->fd, &event)) die("epoll_ctl");
}

/* The far end */

static int obey_sink(Connection *c, uint64_t received) {
    c->left -= received;
    if (c->left == 0) {
        c->left = UINT64_MAX;
        if (write(c->fd, "k", 1) != 1) return 1;
    }
    return 0;
}

static int serve_source(int epoll, Connection *c) {
    while (c->left) {
        ssize_t sent = send(c->fd, big, c->left < BIG ? c->left : BIG, MSG_NOSIGNAL);
        if (sent < 0) return errno != EAGAIN;
        c->left -= sent;
    }
    watch(epoll, EPOLL_CTL_MOD, c, EPOLLIN);
    c->order = 'S';
    c->left = UINT64_MAX;
    return 0;
}

static int serve_sink(Connection *c) {
    for (int round = 0; round < 16; round++) {
        ssize_t received = recv(c->fd, big, BIG, MSG_TRUNC);
        if (received <= 0) return received == 0 || errno != EAGAIN;
        if (obey_sink(c, received)) return 1;
    }
    return 0;
}

static int serve_small(int epoll, Connection *c) {
    static unsigned char bytes[65536];
    unsigned char *at = bytes;
    ssize_t left = recv(c->fd, bytes, sizeof bytes, 0);
    if (left <= 0) return left == 0 || errno != EAGAIN;
    while (left > 0 && !c->order) {
        if (c->state < 5) { /* the record's header says how long the hello is */
            c->record[c->state++] = *at++;
            left--;
            if (c->state == 5) c->skip = c->record[3] << 8 | c->record[4];
        } else if (c->skip) {
            uint64_t count = c->skip < (uint64_t)left ? c->skip : (uint64_t)left;
            c->skip -= count, at += count, left -= count;
        } else {
            c->header[c->order_length++] = *at++;
            left--;
            if (c->order_length == ORDER) {
                c->order = c->header[0];
                memcpy(&c->left, c->header + 8, 8);
                if (c->order == 'R') watch(epoll, EPOLL_CTL_MOD, c, EPOLLOUT);
            }
        }
    }
    if (c->order == 'S' && left > 0) return obey_sink(c, left);
    if (c->order == 'E' && left > 0) return send(c->fd, at, left, MSG_NOSIGNAL) < 0;
    return 0;
}

static void serve(int port) {
    int on = 1, listening = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), epoll = epoll_create1(0);
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(port)};
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    setsockopt(listening, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(listening, (void *)&at, sizeof at) || listen(listening, 4096)) die("listen");
    struct epoll_event event = {.events = EPOLLIN}, events[256];
    epoll_ctl(epoll, EPOLL_CTL_ADD, listening, &event);
    for (;;) {
        int count = epoll_wait(epoll, events, 256, -1);
        for (int i = 0; i < count; i++) {
            Connection *c = events[i].data.ptr;
            if (!c) {
                for (int k = 0, fd; k < 64 && (fd = accept4(listening, 0, 0, SOCK_NONBLOCK)) >= 0; k++) {
                    no_delay(fd);
                    c = calloc(1, sizeof *c);
                    c->fd = fd;
                    watch(epoll, EPOLL_CTL_ADD, c, EPOLLIN);
                }
                continue;
            }
            int over = c->order == 'R' ? serve_source(epoll, c) : c->order == 'S' ? serve_sink(c) : serve_small(epoll, c);
            if (over) close(c->fd), free(c);
        }
    }
}

/* Loads */

static void bulk(int port, int up, int streams, uint64_t each) {
    int epoll = epoll_create1(0), done = 0;
    struct epoll_event events[64];
    double begun = now();
    for (int i = 0; i < streams; i++) {
        Connection *c = calloc(1, sizeof *c);
        c->fd = dial(port, 1);
        open_with(c->fd, up ? 'S' : 'R', each);
        c->left = each;
        fcntl(c->fd, F_SETFL, O_NONBLOCK);
        watch(epoll, EPOLL_CTL_ADD, c, up ? EPOLLOUT : EPOLLIN);
    }
    while (done < streams) {
        int count = epoll_wait(epoll, events, 64, 20000);
        if (count == 0) fail("STALL");
        for (int i = 0; i < count; i++) {
            Connection *c = events[i].data.ptr;
            if (up && !c->left) {
                if (read(c->fd, big, 1) != 1) fail("EOF");
                done++;
                epoll_ctl(epoll, EPOLL_CTL_DEL, c->fd, 0);
                continue;
            }
            for (int round = 0; round < 8 && c->left; round++) {
                size_t most = c->left < BIG ? c->left : BIG;
                ssize_t moved = up ? send(c->fd, big, most, MSG_NOSIGNAL) : recv(c->fd, big, BIG, MSG_TRUNC);
                if (moved == 0) fail("EOF");
                if (moved < 0 && errno != EAGAIN) die("bulk");
                if (moved < 0) break;
                c->left -= moved;
            }
            if (!c->left && up) watch(epoll, EPOLL_CTL_MOD, c, EPOLLIN);
            if (!c->left && !up) done++, epoll_ctl(epoll, EPOLL_CTL_DEL, c->fd, 0);
        }
    }
    double took = now() - begun;
    printf("%.4f %.1f\n", took, streams * each / took / 1e6);
}

static void pingpong(int port, int connections, double seconds) {
    int epoll = epoll_create1(0);
    size_t room = 4000000, made = 0;
    double *latency = malloc(room * sizeof *latency), measured = 0, warm = now() + 0.2, end = warm + seconds;
    struct epoll_event events[256];
    unsigned char byte[64] = {1};
    for (int i = 0; i < connections; i++) {
        Connection *c = calloc(1, sizeof *c);
        c->fd = dial(port, 1);
        open_with(c->fd, 'E', 0);
        write_all(c->fd, byte, 1);
        c->begun = now();
        watch(epoll, EPOLL_CTL_ADD, c, EPOLLIN);
    }
    for (;;) {
        int count = epoll_wait(epoll, events, 256, 5000);
        if (count == 0) fail("STALL");
        double at = now();
        if (!measured && at > warm) measured = at, made = 0;
        if (at > end) break;
        for (int i = 0; i < count; i++) {
            Connection *c = events[i].data.ptr;
            if (read(c->fd, byte, sizeof byte) <= 0) fail("EOF");
            at = now();
            if (made < room) latency[made++] = at - c->begun;
            c->begun = at;
            if (write(c->fd, byte, 1) != 1) die("write");
        }
    }
    double took = now() - measured;
    qsort(latency, made, sizeof *latency, rising);
    printf("%.0f %.1f %.1f\n", made / took, latency[made / 2] * 1e6, latency[(size_t)(made * .99)] * 1e6);
}

static void start(int epoll, Connection *c, int port) {
    c->fd = dial(port, 0);
    c->begun = now();
    c->state = 0;
    watch(epoll, EPOLL_CTL_ADD, c, EPOLLOUT);
}

static void connections(int port, int in_flight, double seconds) {
    int epoll = epoll_create1(0), live = in_flight, errors = 0;
    size_t room = 1000000, made = 0;
    double *latency = malloc(room * sizeof *latency), begun = now(), end = begun + seconds;
    struct epoll_event events[256];
    unsigned char bytes[sizeof hello + ORDER + 1], answer[64];
    int length = opening(bytes, 'E', 0) + 1;
    for (int i = 0; i < in_flight; i++) start(epoll, calloc(1, sizeof(Connection)), port);
    while (live) {
        int count = epoll_wait(epoll, events, 256, 5000);
        if (count == 0) fail("STALL");
        for (int i = 0; i < count; i++) {
            Connection *c = events[i].data.ptr;
            int failed = 0;
            if (c->state == 0) {
                failed = write(c->fd, bytes, length) != length;
                c->state = 1;
                if (!failed) {
                    watch(epoll, EPOLL_CTL_MOD, c, EPOLLIN);
                    continue;
                }
            } else {
                ssize_t received = read(c->fd, answer, sizeof answer);
                if (received < 0 && errno == EAGAIN) continue;
                failed = received <= 0;
            }
            errors += failed;
            if (!failed && made < room) latency[made++] = now() - c->begun;
            close(c->fd);
            live--;
            if (now() < end) start(epoll, c, port), live++;
        }
    }
    double took = now() - begun;
    qsort(latency, made, sizeof *latency, rising);
    printf("%.0f %.0f %.0f %d\n", made / took, made ? latency[made / 2] * 1e6 : 0, made ? latency[(size_t)(made * .99)] * 1e6 : 0, errors);
}

static void paced(int port, double interval, double seconds) {
    size_t room = 100000, made = 0;
    int errors = 0;
    double *latency = malloc(room * sizeof *latency), next = now(), end = next + seconds;
    while (next < end && made < room) {
        double wait = next - now();
        if (wait > 0) usleep(wait * 1e6);
        double begun = now();
        int fd = dial(port, 1);
        unsigned char byte = 1;
        open_with(fd, 'E', 0);
        write_all(fd, &byte, 1);
        if (read(fd, &byte, 1) == 1) latency[made++] = now() - begun;
        else errors++;
        close(fd);
        next += interval;
        if (next < now()) next = now();
    }
    qsort(latency, made, sizeof *latency, rising);
    if (!made) fail("none");
    printf("%zu %.0f %.0f %.0f %d\n", made, latency[made / 2] * 1e6, latency[(size_t)(made * .99)] * 1e6, latency[made - 1] * 1e6, errors);
}

static void hold(void) {
    char byte;
    fflush(stdout);
    while (read(0, &byte, 1) > 0);
}

static void idle(int port, int count) {
    int *fds = malloc(count * sizeof *fds), waited = 0;
    unsigned char byte = 1;
    double begun = now();
    for (int i = 0; i < count; i++) {
        fds[i] = dial(port, 1);
        open_with(fds[i], 'E', 0);
        write_all(fds[i], &byte, 1);
        while (waited < i - 63) if (read(fds[waited++], &byte, 1) != 1) fail("EOF");
    }
    while (waited < count) if (read(fds[waited++], &byte, 1) != 1) fail("EOF");
    printf("ready %.3f\n", now() - begun);
    hold();
}

static void dribble(int port, int count) {
    int epoll = epoll_create1(0), left = count;
    Connection *all = calloc(count, sizeof *all);
    struct epoll_event events[256];
    double begun = now();
    for (int i = 0; i < count; i++) {
        all[i].fd = dial(port, 1);
        watch(epoll, EPOLL_CTL_ADD, &all[i], EPOLLIN | EPOLLRDHUP);
    }
    printf("open %.3f\n", now() - begun);
    fflush(stdout);
    double opened = now();
    for (int byte = 0, next = 0; left;) {
        double due = opened + byte + (double)next / count; /* spread over each second */
        while (next < count && now() >= due) {
            if (all[next].fd >= 0 && send(all[next].fd, hello + byte, 1, MSG_NOSIGNAL) < 0 && errno != EPIPE && errno != ECONNRESET) die("send");
            due = opened + byte + (double)++next / count;
        }
        if (next == count) next = 0, byte++;
        if (byte >= hello_length || now() - opened > 60) fail("never closed");
        int found = epoll_wait(epoll, events, 256, 1);
        for (int i = 0; i < found; i++) {
            Connection *c = events[i].data.ptr;
            close(c->fd);
            c->fd = -1;
            left--;
        }
    }
    printf("closed %d %.3f\n", count, now() - opened);
}

static void stall(int port, uint64_t bytes) {
    open_with(dial(port, 1), 'R', bytes);
    printf("asked\n");
    hold();
}

int main(int count, char **words) {
    struct rlimit limit;
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
    big = malloc(BIG);
    memset(big, 1, BIG);
    if (count < 3) fail("what, and which port?");
    const char *what = words[1];
    int port = atoi(words[2]);
    if (!strcmp(what, "serve")) serve(port);
    FILE *file = count > 3 ? fopen(words[3], "rb") : 0;
    if (!file) die("the file with the hello");
    hello_length = fread(hello, 1, sizeof hello, file);
    if (!strcmp(what, "bulk") && count > 6) bulk(port, !strcmp(words[4], "up"), atoi(words[5]), (uint64_t)atoll(words[6]) << 20);
    else if (!strcmp(what, "pingpong") && count > 5) pingpong(port, atoi(words[4]), atof(words[5]));
    else if (!strcmp(what, "connections") && count > 5) connections(port, atoi(words[4]), atof(words[5]));
    else if (!strcmp(what, "paced") && count > 5) paced(port, atof(words[4]) / 1e3, atof(words[5]));
    else if (!strcmp(what, "idle") && count > 4) idle(port, atoi(words[4]));
    else if (!strcmp(what, "dribble") && count > 4) dribble(port, atoi(words[4]));
    else if (!strcmp(what, "stall") && count > 4) stall(port, (uint64_t)atoll(words[4]) << 20);
    else fail("wrong words; the first lines of the source say which");
    return 0;
}
