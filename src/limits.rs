//! Every bound in the program, with its unit and reason. Relations between bounds are asserted at compile time.

/// Bytes of one receive buffer of a worker's pool.
pub const RECEIVE_BUFFER_BYTES: usize = 16 * 1024;
/// Receive buffers of a worker's pool (a power of two, as the kernel's buffer ring wants).
pub const RECEIVE_BUFFERS: usize = 1024;
/// Chunks in one gathered send; `UIO_MAXIOV` is 1024, more than this gains nothing.
pub const SEND_CHUNKS_MAX: usize = 64;
/// An outbox that holds more than this many bytes stops the reading of its connection.
pub const OUTBOX_HIGH_BYTES: usize = 1024 * 1024;
/// Reading starts again below this many bytes.
pub const OUTBOX_LOW_BYTES: usize = 256 * 1024;
/// A connection whose outbox passes this many bytes is closed: its peer doesn't read (a broadcast's or a script's bytes;
/// request-reply protocols stop at the high-water mark).
pub const OUTBOX_MAX_BYTES: usize = 64 * 1024 * 1024;
/// Connections of one worker: the slot's bits of a connection id.
pub const CONNECTIONS_PER_WORKER_MAX: usize = 1 << 20;
/// Workers of a daemon: the worker's bits of a connection id.
pub const WORKERS_MAX: usize = 256;
/// A line of the line protocol, without its newline.
pub const LINE_BYTES_MAX: usize = 1024 * 1024;
/// A parked connection's unread input; reading stops there.
pub const INPUT_HIGH_BYTES: usize = 1024 * 1024;
/// A frame between the command line and the daemon.
pub const CONTROL_FRAME_BYTES_MAX: usize = 16 * 1024 * 1024;
/// A runtime's name.
pub const NAME_BYTES_MAX: usize = 128;
/// Databases of a store (`SELECT 0` to `SELECT 15`).
pub const DATABASES: usize = 16;
/// A string up to here lies in its key's allocation; longer ones in one of their own.
pub const STORE_INLINE_BYTES_MAX: usize = 4096;
/// A string value, as Redis's proto-max-bulk-len.
pub const STRING_BYTES_MAX: usize = 512 * 1024 * 1024;

const _: () = assert!(RECEIVE_BUFFERS.is_power_of_two() && RECEIVE_BUFFERS <= 1 << 15);
const _: () = assert!(OUTBOX_LOW_BYTES < OUTBOX_HIGH_BYTES && OUTBOX_HIGH_BYTES < OUTBOX_MAX_BYTES);
const _: () = assert!(LINE_BYTES_MAX <= INPUT_HIGH_BYTES);
