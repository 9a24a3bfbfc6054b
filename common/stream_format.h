/* What both sides of the stream format share; the format is described in ckpt-stream(5). */
#ifndef STREAM_FORMAT_H
#define STREAM_FORMAT_H

enum { STREAM_VERSION = 1, STREAM_FRAME_HEADER = 16 };
#define STREAM_MAGIC "CKPTSTRM"

/* Which boot of which machine this is: files are only the same files within it (proc(5), random/boot_id). */
void stream_boot_id(char id[64]);

/* Lets a pipe hold 1 MiB, as much as any user may ask for (pipe(7)), where it can be had: tensors' bytes then
 * cross it with a sixteenth of the switches between the programs. */
void stream_widen_pipe(int fd);

#endif
