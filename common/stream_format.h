/* What both sides of the stream format share; the format is described in ckpt-stream(5). */
#ifndef STREAM_FORMAT_H
#define STREAM_FORMAT_H

enum { STREAM_VERSION = 1, STREAM_FRAME_HEADER = 16 };
#define STREAM_MAGIC "CKPTSTRM"

/* Which boot of which machine this is: files are only the same files within it (proc(5), random/boot_id). */
void stream_boot_id(char id[64]);

#endif
