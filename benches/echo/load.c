// load: clients for measuring a server, WebSocket or plain lines; one thread, epoll, loopback only.
//
// build:  cc -O2 -o load load.c
// usage:  load PORT echo CONNS SIZE DEPTH SECS PID        DEPTH messages in flight on each connection
//         load PORT lines CONNS SIZE DEPTH SECS PID       the same with lines over plain TCP
//         load PORT broadcast CONNS SIZE DEPTH SECS PID   one client sends, all others receive; DEPTH at a time
//         load PORT idle CONNS 0 0 SECS PID               upgraded connections that say nothing
//   PID    the server's process: its CPU time and memory are what is measured
//
// Prints one line: messages (deliveries) per second, the server's CPU nanoseconds for each, how many a CPU second
// makes, the server's memory per connection in bytes; for echoes also the median and the 99th percentile of the time
// that a batch of DEPTH messages takes, in microseconds.
#define _GNU_SOURCE
#include <arpa/inet.h>
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

static const char UPGRADE[] =
    "GET / HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";

static void fail(const char *what) {
  perror(what);
  exit(1);
}

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec + t.tv_nsec * 1e-9;
}

// CPU nanoseconds of a process.
static double cpu_ns(int pid) {
  clockid_t clock;
  struct timespec t;
  if (clock_getcpuclockid(pid, &clock) || clock_gettime(clock, &t)) return 0;
  return t.tv_sec * 1e9 + t.tv_nsec;
}

// The process's own memory in bytes.
static double memory(int pid) {
  char path[64], line[256];
  double kb = 0;
  snprintf(path, sizeof path, "/proc/%d/status", pid);
  FILE *f = fopen(path, "r");
  while (f && fgets(line, sizeof line, f)) sscanf(line, "RssAnon: %lf", &kb);
  if (f) fclose(f);
  return kb * 1024;
}

static int plain;

static int client(int port, int number) {
  int fd = socket(AF_INET, SOCK_STREAM, 0), yes = 1;
  // A few thousand to each address: one address has only so many ports, and each run leaves some of them waiting.
  struct sockaddr_in from = {AF_INET, 0, {htonl(0x7f000100 + getpid() % 4096 * 16 + number / 4000)}};
  struct sockaddr_in a = {AF_INET, htons(port), {htonl(INADDR_LOOPBACK)}};
  if (fd < 0 || bind(fd, (void *)&from, sizeof from) || connect(fd, (void *)&a, sizeof a)) fail("connect");
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
  if (plain) return fd;
  if (send(fd, UPGRADE, sizeof UPGRADE - 1, 0) < 0) fail("upgrade");
  char answer[1024];
  int n = 0;
  while (n < 4 || memcmp(answer + n - 4, "\r\n\r\n", 4)) {
    int got = recv(fd, answer + n, 1, 0);
    if (got <= 0 || ++n == sizeof answer) fail("no upgrade");
  }
  if (strncmp(answer, "HTTP/1.1 101", 12)) fail("refused");
  return fd;
}

// One masked binary frame.
static size_t frame(uint8_t *out, size_t size) {
  size_t h = size < 126 ? 2 : size < 65536 ? 4 : 10;
  out[0] = 0x82;
  out[1] = 0x80 | (size < 126 ? size : size < 65536 ? 126 : 127);
  for (size_t i = 2; i < h; i++) out[i] = size >> 8 * (h - 1 - i);
  memcpy(out + h, "\1\2\3\4", 4);
  for (size_t i = 0; i < size; i++) out[h + 4 + i] = ('a' + i % 26) ^ out[h + i % 4];
  return h + 4 + size;
}

static size_t line(uint8_t *out, size_t size) {
  for (size_t i = 0; i < size; i++) out[i] = 'a' + i % 26;
  out[size - 1] = '\n';
  return size;
}

// Times in microseconds, 16 steps an octave.
static size_t times[64 * 16];

static void count_time(double us) {
  int octave = 0;
  for (; us >= 2; us /= 2) octave++;
  times[octave * 16 + (int)((us < 1 ? 0 : us - 1) * 16)]++;
}

static double quantile(double of) {
  size_t all = 0, seen = 0;
  for (int i = 0; i < 1024; i++) all += times[i];
  for (int i = 0; i < 1024; i++)
    if ((seen += times[i]) > all * of) return (1L << i / 16) * (1 + (i % 16 + 0.5) / 16);
  return 0;
}

int main(int argc, char **v) {
  if (argc < 8) return fprintf(stderr, "usage: load PORT echo|lines|broadcast|idle CONNS SIZE DEPTH SECS PID\n"), 2;
  int port = atoi(v[1]), conns = atoi(v[3]), size = atoi(v[4]), depth = atoi(v[5]), pid = atoi(v[7]);
  plain = v[2][0] == 'l';
  int is_echo = v[2][0] == 'e' || plain, is_idle = v[2][0] == 'i';
  double secs = atof(v[6]), empty = memory(pid);
  struct rlimit most = {65536, 65536};
  setrlimit(RLIMIT_NOFILE, &most);
  int ep = epoll_create1(0), *fds = malloc(conns * sizeof *fds);
  for (int i = 0; i < conns; i++) {
    fds[i] = client(port, i);
    struct epoll_event e = {.events = EPOLLIN, .data.u32 = i};
    epoll_ctl(ep, EPOLL_CTL_ADD, fds[i], &e);
  }
  if (is_idle) {
    double start_ns = cpu_ns(pid);
    usleep(secs * 1e6);
    printf("idle %d: %.0f bytes each, %.2f %% of a CPU\n", conns, (memory(pid) - empty) / conns,
           (cpu_ns(pid) - start_ns) / secs / 1e7);
    return 0;
  }
  uint8_t *batch = malloc((size + 14) * (size_t)depth), *in = malloc(1 << 20);
  size_t sent = 0, received = (plain ? 0 : size < 126 ? 2 : size < 65536 ? 4 : 10) + size;
  for (int i = 0; i < depth; i++) sent += (plain ? line : frame)(batch + sent, size);
  // What a round brings: the batch back to each, or to all but the sender.
  size_t *left = calloc(conns, sizeof *left), open = 0, rounds = 0;
  double *since = calloc(conns, sizeof *since);
  double start = now(), start_ns = cpu_ns(pid), end = start + secs;
  struct epoll_event events[512];
  for (int i = 0; is_echo && i < conns; i++) {
    left[i] = received * depth, since[i] = now();
    if (send(fds[i], batch, sent, 0) != (ssize_t)sent) fail("send");
  }
  while (now() < end) {
    if (!is_echo && !open) {
      for (int i = 1; i < conns; i++) left[i] = received * depth;
      open = conns - 1, rounds++;
      if (send(fds[0], batch, sent, 0) != (ssize_t)sent) fail("send");
    }
    int n = epoll_wait(ep, events, 512, 100);
    for (int e = 0; e < n; e++) {
      int i = events[e].data.u32;
      ssize_t got = recv(fds[i], in, 1 << 20, 0);
      if (got <= 0 || (size_t)got > left[i]) fail("a wrong answer");
      if (left[i] -= got) continue;
      if (!is_echo) {
        open--;
      } else {
        double t = now();
        count_time((t - since[i]) * 1e6);
        rounds++, left[i] = received * depth, since[i] = t;
        if (send(fds[i], batch, sent, 0) != (ssize_t)sent) fail("send");
      }
    }
  }
  double took = now() - start, used = cpu_ns(pid) - start_ns;
  double messages = (double)rounds * depth * (is_echo ? 1 : conns - 1);
  printf("%s %d x %d B, depth %d: %.0f/s, %.0f ns each, %.2f M per CPU second, %.0f bytes a connection", v[2], conns,
         size, depth, messages / took, used / messages, messages / used * 1e3, (memory(pid) - empty) / conns);
  if (is_echo) printf(", p50 %.0f us, p99 %.0f us", quantile(0.5), quantile(0.99));
  puts("");
  return 0;
}
