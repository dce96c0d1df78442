/* Does to the folder it is given what programs do that forget to sync, and what careful ones do. Run under shim.c; main.rs knows what must
 * be left of each file. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#define CHECK(what) \
    do { \
        if ((what) < 0) { \
            perror(#what); \
            return 1; \
        } \
    } while (0)

static int put(const char *name, int flags, const char *text) {
    int fd = open(name, O_WRONLY | O_CREAT | flags, 0600);
    if (fd < 0 || write(fd, text, strlen(text)) < 0) {
        perror(name);
        exit(1);
    }
    return fd;
}

int main(int count, char **arguments) {
    if (count != 2 || chdir(arguments[1])) return 2;
    int folder = open(".", O_RDONLY | O_DIRECTORY);
    CHECK(folder);

    int never_synced = put("never-synced", 0, "gone");
    int synced = put("synced", 0, "stays");
    CHECK(fsync(synced));
    int partly = put("partly", 0, "stays");
    CHECK(fdatasync(partly));
    CHECK(write(partly, ", gone", 6));
    int ranged = put("only-sync-file-range", 0, "gone");
    CHECK(sync_file_range(ranged, 0, 4, SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE | SYNC_FILE_RANGE_WAIT_AFTER));
    put("o-dsync", O_DSYNC, "stays");
    int vector = open("vector", O_WRONLY | O_CREAT, 0600);
    struct iovec parts[] = {{"st", 2}, {"ays", 3}};
    CHECK(pwritev(vector, parts, 2, 0));
    CHECK(fdatasync(vector));
    int copied = dup(put("through-a-copied-descriptor", 0, "stays"));
    CHECK(fsync(copied));
    void *block;
    if (posix_memalign(&block, 4096, 4096)) return 1;
    memset(block, 'g', 4096);
    int direct = open("o-direct", O_WRONLY | O_CREAT | O_DIRECT, 0600);
    if (direct >= 0) CHECK(write(direct, block, 4096)); /* tmpfs may not know it */
    CHECK(fsync(folder));

    /* From here on no name is durable. */
    fsync(put("name-never-synced", 0, "gone"));
    fsync(put("replacement", 0, "gone"));
    CHECK(rename("replacement", "renamed-over"));
    CHECK(unlink("unlinked"));
    int before = open("before", O_WRONLY);
    CHECK(before);
    CHECK(pwrite(before, "XX", 2, 1));
    int cut = open("cut", O_WRONLY);
    CHECK(cut);
    CHECK(ftruncate(cut, 1));
    CHECK(write(never_synced, "gone", 4));
    return 0;
}
