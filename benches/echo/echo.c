// echo: a minimal echo server, one thread, epoll: the bar that this bench holds Socketley to.
//
// build:  cc -O2 -o echo echo.c
// usage:  echo PORT             echoes each WebSocket frame, unmasked; loopback only
//         echo PORT lines       sends back what it reads
//         echo PORT broadcast   sends each frame to every other connection, one writev a connection and read
//
// It does what an echo can't do without, and nothing else: the handshake (no check but the key), whole unfragmented
// frames, no UTF-8, no close handshake. A peer that doesn't read is closed.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

enum { READ = 256 * 1024, FDS = 65536, PENDING = 4 * 1024 * 1024 };

typedef struct {
  int open, upgraded;
  uint8_t *in, *out; // what isn't a whole frame yet; what the socket didn't take
  size_t in_len, out_len;
} Peer;

static Peer peers[FDS];
static int top, ep, everyone, plain;

static uint32_t rol(uint32_t v, int n) { return v << n | v >> (32 - n); }

// SHA-1 of a short message (RFC 3174).
static void sha1(const char *text, size_t len, uint8_t digest[20]) {
  uint8_t m[128] = {0};
  memcpy(m, text, len);
  m[len] = 0x80;
  size_t blocks = (len + 9 + 63) / 64;
  m[blocks * 64 - 1] = len * 8, m[blocks * 64 - 2] = len * 8 >> 8;
  uint32_t h[5] = {0x67452301, 0xEFCDAB89, 0x98BADCFE, 0x10325476, 0xC3D2E1F0}, w[80];
  for (size_t b = 0; b < blocks; b++) {
    for (int i = 0; i < 16; i++) w[i] = ntohl(((uint32_t *)(m + b * 64))[i]);
    for (int i = 16; i < 80; i++) w[i] = rol(w[i - 3] ^ w[i - 8] ^ w[i - 14] ^ w[i - 16], 1);
    uint32_t a = h[0], c = h[1], d = h[2], e = h[3], f = h[4];
    for (int i = 0; i < 80; i++) {
      uint32_t k = i < 20   ? ((c & d) | (~c & e)) + 0x5A827999
                   : i < 40 ? (c ^ d ^ e) + 0x6ED9EBA1
                   : i < 60 ? ((c & d) | (c & e) | (d & e)) + 0x8F1BBCDC
                            : (c ^ d ^ e) + 0xCA62C1D6;
      uint32_t t = rol(a, 5) + k + f + w[i];
      f = e, e = d, d = rol(c, 30), c = a, a = t;
    }
    h[0] += a, h[1] += c, h[2] += d, h[3] += e, h[4] += f;
  }
  for (int i = 0; i < 5; i++) h[i] = htonl(h[i]);
  memcpy(digest, h, 20);
}

static void accept_value(const char *key, char out[29]) {
  char text[128];
  uint8_t d[21] = {0};
  static const char *abc = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  sha1(text, snprintf(text, sizeof text, "%.24s258EAFA5-E914-47DA-95CA-C5AB0DC85B11", key), d);
  for (int i = 0; i < 7; i++) {
    uint32_t v = d[i * 3] << 16 | d[i * 3 + 1] << 8 | d[i * 3 + 2];
    for (int k = 0; k < 4; k++) out[i * 4 + k] = abc[v >> (18 - 6 * k) & 63];
  }
  out[27] = '=', out[28] = 0;
}

static void drop(int fd) {
  close(fd);
  free(peers[fd].in), free(peers[fd].out);
  peers[fd] = (Peer){0};
}

static void watch(int fd, int op, uint32_t events) {
  struct epoll_event e = {.events = events, .data.fd = fd};
  epoll_ctl(ep, op, fd, &e);
}

// Sends, and keeps what the socket doesn't take. 0 if the peer was dropped.
static int put(int fd, const uint8_t *bytes, size_t len) {
  Peer *p = &peers[fd];
  if (!p->out_len) {
    ssize_t n = send(fd, bytes, len, MSG_NOSIGNAL);
    if (n < 0 && errno != EAGAIN) return drop(fd), 0;
    if (n > 0) bytes += n, len -= n;
  }
  if (!len) return 1;
  if (p->out_len + len > PENDING) return drop(fd), 0;
  if (!p->out_len) watch(fd, EPOLL_CTL_MOD, EPOLLIN | EPOLLOUT);
  p->out = realloc(p->out, p->out_len + len);
  memcpy(p->out + p->out_len, bytes, len);
  p->out_len += len;
  return 1;
}

static int upgrade(int fd, uint8_t *bytes, size_t len) {
  char *end = memmem(bytes, len, "\r\n\r\n", 4), *key = NULL, answer[256], value[29];
  if (!end) return 0;
  for (char *line = (char *)bytes; line < end; line = strstr(line, "\r\n") + 2)
    if (!strncasecmp(line, "Sec-WebSocket-Key: ", 19)) key = line + 19;
  if (!key) return drop(fd), -1;
  accept_value(key, value);
  int n = snprintf(answer, sizeof answer,
                   "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                   "Sec-WebSocket-Accept: %s\r\n\r\n", value);
  peers[fd].upgraded = 1;
  return put(fd, (uint8_t *)answer, n) ? end + 4 - (char *)bytes : -1;
}

// Turns the whole masked frames of `in` into unmasked ones in `out`; answers how much of `in` they took, -1 at a close.
static ssize_t frames(uint8_t *in, size_t len, uint8_t *out, size_t *made) {
  size_t at = 0, to = 0;
  while (len - at >= 6) {
    uint8_t *f = in + at;
    size_t n = f[1] & 127, h = 2;
    if (n == 126) n = f[2] << 8 | f[3], h = 4;
    else if (n == 127) {
      if (len - at < 14) break;
      n = 0, h = 10;
      for (int i = 2; i < 10; i++) n = n << 8 | f[i];
    }
    if (len - at < h + 4 + n) break;
    if ((f[0] & 15) == 8) return -1;
    uint8_t *key = f + h, *from = key + 4;
    memcpy(out + to, f, h);
    out[to + 1] &= 127;
    uint32_t k4;
    memcpy(&k4, key, 4);
    uint64_t k8 = (uint64_t)k4 << 32 | k4, v;
    size_t i = 0;
    for (; i + 8 <= n; i += 8) memcpy(&v, from + i, 8), v ^= k8, memcpy(out + to + h + i, &v, 8);
    for (; i < n; i++) out[to + h + i] = from[i] ^ key[i & 3];
    at += h + 4 + n, to += h + n;
  }
  *made = to;
  return at;
}

static void readable(int fd) {
  static uint8_t buffer[READ + 16 * 1024 * 1024], out[READ + 16 * 1024 * 1024];
  Peer *p = &peers[fd];
  size_t len = p->in_len;
  if (len) memcpy(buffer, p->in, len);
  ssize_t n = recv(fd, buffer + len, READ, 0), used = 0;
  if (n < 0 && errno == EAGAIN) return;
  if (n <= 0) return drop(fd);
  len += n;
  if (plain) return (void)put(fd, buffer, len);
  buffer[len] = 0;
  if (!p->upgraded && (used = upgrade(fd, buffer, len)) < 0) return;
  if (p->upgraded) {
    size_t made = 0;
    ssize_t taken = frames(buffer + used, len - used, out, &made);
    if (taken < 0) return drop(fd);
    used += taken;
    if (made && !everyone && !put(fd, out, made)) return;
    for (int to = 0; made && everyone && to <= top; to++)
      if (to != fd && peers[to].upgraded) put(to, out, made);
  }
  if (!peers[fd].open) return;
  p->in_len = len - used;
  if (!p->in_len) free(p->in), p->in = NULL;
  else p->in = realloc(p->in, p->in_len), memcpy(p->in, buffer + used, p->in_len);
}

static void writable(int fd) {
  Peer *p = &peers[fd];
  ssize_t n = send(fd, p->out, p->out_len, MSG_NOSIGNAL);
  if (n < 0) {
    if (errno != EAGAIN) drop(fd);
    return;
  }
  memmove(p->out, p->out + n, p->out_len -= n);
  if (!p->out_len) free(p->out), p->out = NULL, watch(fd, EPOLL_CTL_MOD, EPOLLIN);
}

int main(int argc, char **argv) {
  if (argc < 2) return fprintf(stderr, "usage: echo PORT [lines|broadcast]\n"), 2;
  everyone = argc > 2 && argv[2][0] == 'b';
  plain = argc > 2 && argv[2][0] == 'l';
  struct rlimit most = {FDS, FDS};
  setrlimit(RLIMIT_NOFILE, &most);
  int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), yes = 1;
  struct sockaddr_in a = {AF_INET, htons(atoi(argv[1])), {htonl(INADDR_LOOPBACK)}};
  setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
  if (bind(listener, (void *)&a, sizeof a) || listen(listener, 4096)) return perror("echo"), 1;
  ep = epoll_create1(0);
  watch(listener, EPOLL_CTL_ADD, EPOLLIN);
  struct epoll_event events[512];
  for (;;) {
    int n = epoll_wait(ep, events, 512, -1);
    for (int i = 0; i < n; i++) {
      int fd = events[i].data.fd;
      if (fd == listener) {
        while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
          if (fd >= FDS) { close(fd); continue; }
          setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
          peers[fd] = (Peer){.open = 1};
          if (fd > top) top = fd;
          watch(fd, EPOLL_CTL_ADD, EPOLLIN);
        }
        continue;
      }
      if (events[i].events & EPOLLOUT) writable(fd);
      if (peers[fd].open && events[i].events & ~EPOLLOUT) readable(fd);
    }
  }
}
