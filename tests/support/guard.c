/* Records what a process and its children connect to, look up and open for writing: LD_PRELOAD this, one line each goes
   to the file that GUARD_LOG names. Names are not looked up at all. Calls inside the C library are not seen. */
#define _GNU_SOURCE
#undef _FORTIFY_SOURCE
#include <arpa/inet.h>
#include <dlfcn.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#define NEXT(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

/* System calls only: the library's own functions are replaced below. One write, so that processes do not mix lines. */
static void record(const char *kind, const char *what) {
    char line[4352];
    const char *path = getenv("GUARD_LOG");
    int length = snprintf(line, sizeof line, "%s %s\n", kind, what), file;
    if (!path || (file = syscall(SYS_openat, AT_FDCWD, path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600)) < 0)
        abort();
    if (syscall(SYS_write, file, line, (size_t)length) != length)
        abort();
    syscall(SYS_close, file);
}

static void record_address(const struct sockaddr *address) {
    char host[INET6_ADDRSTRLEN] = "", line[INET6_ADDRSTRLEN + 16];
    int port;
    if (!address)
        return;
    if (address->sa_family == AF_INET) {
        const struct sockaddr_in *four = (const struct sockaddr_in *)address;
        inet_ntop(AF_INET, &four->sin_addr, host, sizeof host);
        port = ntohs(four->sin_port);
    } else if (address->sa_family == AF_INET6) {
        const struct sockaddr_in6 *six = (const struct sockaddr_in6 *)address;
        inet_ntop(AF_INET6, &six->sin6_addr, host, sizeof host);
        port = ntohs(six->sin6_port);
    } else {
        return;
    }
    snprintf(line, sizeof line, "%s %d", host, port);
    record("address", line);
}

int connect(int socket, const struct sockaddr *address, socklen_t length) {
    record_address(address);
    return NEXT(connect)(socket, address, length);
}

int bind(int socket, const struct sockaddr *address, socklen_t length) {
    record_address(address);
    return NEXT(bind)(socket, address, length);
}

ssize_t sendto(int socket, const void *data, size_t size, int flags, const struct sockaddr *address, socklen_t length) {
    record_address(address);
    return NEXT(sendto)(socket, data, size, flags, address, length);
}

ssize_t sendmsg(int socket, const struct msghdr *message, int flags) {
    record_address(message->msg_name);
    return NEXT(sendmsg)(socket, message, flags);
}

int getaddrinfo(const char *host, const char *service, const struct addrinfo *hints, struct addrinfo **found) {
    struct in6_addr number;
    if (!host || inet_pton(AF_INET, host, &number) == 1 || inet_pton(AF_INET6, host, &number) == 1)
        return NEXT(getaddrinfo)(host, service, hints, found);
    record("lookup", host);
    return EAI_FAIL;
}

struct hostent *gethostbyname(const char *host) {
    record("lookup", host);
    return NULL;
}

static int opened(int file, int flags) {
    char link[64], path[4097];
    ssize_t length;
    if (file >= 0 && flags & (O_WRONLY | O_RDWR | O_CREAT)) {
        snprintf(link, sizeof link, "/proc/self/fd/%d", file);
        length = readlink(link, path, sizeof path - 1);
        path[length < 0 ? 0 : length] = 0;
        record("write", path);
    }
    return file;
}

/* The mode is passed on even where none was given: it is ignored then. */
#define MODE_OF(flags)          \
    va_list rest;               \
    va_start(rest, flags);      \
    mode_t mode = va_arg(rest, mode_t); \
    va_end(rest)

int open(const char *path, int flags, ...) {
    MODE_OF(flags);
    return opened(NEXT(open)(path, flags, mode), flags);
}

int open64(const char *path, int flags, ...) {
    MODE_OF(flags);
    return opened(NEXT(open64)(path, flags, mode), flags);
}

int openat(int folder, const char *path, int flags, ...) {
    MODE_OF(flags);
    return opened(NEXT(openat)(folder, path, flags, mode), flags);
}

int openat64(int folder, const char *path, int flags, ...) {
    MODE_OF(flags);
    return opened(NEXT(openat64)(folder, path, flags, mode), flags);
}

int creat(const char *path, mode_t mode) { return opened(NEXT(creat)(path, mode), O_CREAT); }

int creat64(const char *path, mode_t mode) { return opened(NEXT(creat64)(path, mode), O_CREAT); }

static FILE *opened_stream(FILE *stream, const char *mode) {
    if (stream && strpbrk(mode, "wa+"))
        opened(fileno(stream), O_CREAT);
    return stream;
}

FILE *fopen(const char *path, const char *mode) { return opened_stream(NEXT(fopen)(path, mode), mode); }

FILE *fopen64(const char *path, const char *mode) { return opened_stream(NEXT(fopen64)(path, mode), mode); }
