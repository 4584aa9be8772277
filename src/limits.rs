//! Every bound in the program, with its unit and reason. Relations between bounds are asserted at compile time.

/// Bytes of one receive buffer of a worker's pool.
pub const RECEIVE_BUFFER_BYTES: usize = 16 * 1024;
/// Receive buffers of a worker's pool (a power of two, as the kernel's buffer ring wants).
pub const RECEIVE_BUFFERS: usize = 1024;
/// Receive buffers that the kernel has at first, and at least while it needs no more: 1 MB, what a core's cache holds.
pub const RECEIVE_BUFFERS_START: usize = 64;
/// With fewer receive buffers than this a worker is no use: it fails instead.
pub const RECEIVE_BUFFERS_MIN: usize = 4;
/// Message headers (1 KB each) that a ring keeps for the next gathered sends.
pub const SPARE_MESSAGES_MAX: usize = 64;
/// Chunks in one gathered send; `UIO_MAXIOV` is 1024, more than this gains nothing.
pub const SEND_CHUNKS_MAX: usize = 64;
/// An outbox that holds more than this many bytes stops the reading of its connection.
pub const OUTBOX_HIGH_BYTES: usize = 1024 * 1024;
/// Reading starts again below this many bytes.
pub const OUTBOX_LOW_BYTES: usize = 256 * 1024;
/// A connection whose outbox passes this many bytes is closed: its peer doesn't read (a broadcast's or a script's bytes;
/// request-reply protocols stop at the high-water mark).
pub const OUTBOX_MAX_BYTES: usize = 64 * 1024 * 1024;
/// An outbox's growing chunk is closed at this size: larger ones cost more to regrow than another chunk does.
/// Also the largest sent buffer that is kept for the next replies.
pub const OUTBOX_COALESCE_BYTES: usize = 64 * 1024;
/// Shared or owned bytes below this are copied into the growing chunk: cheaper than a chunk of their own.
pub const OUTBOX_SHARE_BYTES_MIN: usize = 512;
/// A method of an HTTP request line: more in the first bytes of a connection is no request.
pub const DETECT_METHOD_BYTES_MAX: usize = 32;
/// Messages kept for a connection whose protocol isn't known yet.
pub const DETECT_HELD_BYTES_MAX: usize = 64 * 1024;
/// How long a server on `auto` waits for a client's first bytes before its app meets it, in milliseconds.
pub const DETECT_MS: u64 = 100;
/// The longest such time that a runtime may ask for, in milliseconds.
pub const DETECT_MS_MAX: u64 = 60_000;
/// One line of an HTTP head: the request line or a field.
pub const HTTP_LINE_BYTES_MAX: usize = 8 * 1024;
/// A whole HTTP head.
pub const HTTP_HEAD_BYTES_MAX: usize = 32 * 1024;
/// Field lines of an HTTP head.
pub const HTTP_FIELDS_MAX: usize = 100;
/// Chunk extensions of one HTTP body, all together.
pub const HTTP_CHUNK_EXTENSION_BYTES_MAX: usize = 4 * 1024;
/// Trailers of one HTTP body, all together.
pub const HTTP_TRAILER_BYTES_MAX: usize = 8 * 1024;
/// Requests of one HTTP connection whose answers aren't complete; no more are read.
pub const HTTP_PIPELINE_MAX: usize = 64;
/// A request's body, unless the runtime says otherwise.
pub const HTTP_BODY_BYTES: usize = 1024 * 1024;
/// The largest that a runtime may ask for.
pub const HTTP_BODY_BYTES_MAX: usize = 1024 * 1024 * 1024;
/// What is read and dropped of a body that nobody wants, before the connection is closed instead.
pub const HTTP_DROP_BYTES_MAX: u64 = 256 * 1024;
/// One piece of a body that a handler reads.
pub const HTTP_PIECE_BYTES: usize = 64 * 1024;
/// Routes of a server.
pub const HTTP_ROUTES_MAX: usize = 10_000;
/// Names in a route's pattern.
pub const HTTP_ROUTE_PARTS_MAX: usize = 8;
/// A file up to here is kept in memory when it is served.
pub const HTTP_FILE_CACHED_BYTES_MAX: usize = 256 * 1024;
/// All files that a worker keeps, compressed forms and entries included.
pub const HTTP_FILES_CACHED_BYTES_MAX: usize = 32 * 1024 * 1024;
/// What a kept file's entry counts beside its bytes.
pub const HTTP_FILE_COST_BYTES: usize = 512;
/// How long a kept file is served without looking whether it has changed, in milliseconds.
pub const HTTP_FILE_CHECK_MS: u64 = 1000;
/// One read of a file that isn't kept.
pub const HTTP_FILE_PIECE_BYTES: usize = 128 * 1024;
/// A file below this isn't worth compressing.
pub const HTTP_GZIP_BYTES_MIN: usize = 256;
/// How long an HTTP connection may be idle between requests, in milliseconds.
pub const HTTP_IDLE_MS: u64 = 60_000;
/// How often the progress of a request's body is looked at, in milliseconds.
pub const HTTP_BODY_CHECK_MS: u64 = 10_000;
/// What must have come of a body in that time.
pub const HTTP_BODY_CHECK_BYTES: u64 = 10 * 1024;
/// How long an HTTP peer may take none of its answer, in milliseconds.
pub const HTTP_WRITE_STALL_MS: u64 = 30_000;
/// How long the head of an HTTP request may take, in milliseconds.
pub const HTTP_HEAD_MS: u64 = 10_000;
/// A datagram that is sent: the largest that UDP over IPv4 carries.
pub const DATAGRAM_BYTES_MAX: usize = 65_507;
/// How long a backend may take until its answer begins, in milliseconds.
pub const PROXY_RESPONSE_MS: u64 = 60_000;
/// How long neither side of a proxied request may move, in milliseconds.
pub const PROXY_IDLE_MS: u64 = 60_000;
/// The longest time that a proxy's field may name, in milliseconds.
pub const PROXY_TIME_MS_MAX: u64 = 86_400_000;
/// Connections that a worker keeps open to one backend while no request is for them.
pub const PROXY_KEPT_MAX: usize = 512;
/// How long such a connection is kept, in milliseconds.
pub const PROXY_KEPT_MS: u64 = 30_000;
/// How often kept connections are looked through, in milliseconds.
pub const PROXY_TEND_MS: u64 = 1000;
/// Answers before the answer (103 and its like) that a backend may give to one request.
pub const PROXY_INTERIM_MAX: u8 = 32;
/// What a client may send ahead of the request that is being answered; it isn't read further.
pub const PROXY_AHEAD_BYTES: usize = 64 * 1024;
/// Buffers for requests' heads that a worker keeps for the next ones.
pub const PROXY_SPARE_HEADS_MAX: usize = 256;
/// How long a request waits for a place at a backend unless its proxy says otherwise, in milliseconds.
pub const PROXY_QUEUE_MS: u64 = 5_000;
/// Requests that wait for a place on one worker; more are refused.
pub const PROXY_QUEUE_MAX: usize = 4096;
/// What is read of a TLS client's first message to find the name that it asks for.
pub const CLIENT_HELLO_BYTES_MAX: usize = 16 * 1024;
/// How often the same is logged of a backend, in milliseconds; the failures in between are counted.
pub const PROXY_WARN_MS: u64 = 10_000;
/// How often the queue looks for places that other workers gave back, in milliseconds.
pub const PROXY_QUEUE_LOOK_MS: u64 = 5;
/// What second tries may cost at once on one worker, in tenths of a request.
pub const PROXY_RETRY_BUDGET_TENTHS: u32 = 1000;
/// What is read of a health check's answer.
pub const PROXY_CHECK_BYTES_MAX: usize = 64 * 1024;
/// The largest weight of a backend.
pub const PROXY_WEIGHT_MAX: u64 = 1000;
/// Names of hosts of one proxy.
pub const PROXY_HOSTS_MAX: usize = 1024;
/// Header changes of one proxy and direction.
pub const PROXY_HEADER_CHANGES_MAX: usize = 64;
/// Datagrams that wait for a socket to send them; more are dropped.
pub const DATAGRAMS_QUEUED_MAX: usize = 16 * 1024;
/// Their payloads together.
pub const DATAGRAM_QUEUE_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Datagrams of one batch: each is an op of the kernel's.
pub const DATAGRAMS_PER_SEND: usize = 256;
/// Peers of a UDP server that names no limit.
pub const UDP_PEERS_MAX: usize = 10_000;
/// How long a peer of a UDP server may be silent, in seconds, if its runtime doesn't say otherwise.
pub const UDP_PEER_IDLE_S: u64 = 60;
/// The largest factor by which an unverified peer may be sent more than it has sent.
pub const AMPLIFICATION_MAX: u64 = 1000;
/// Multicast groups of a server; Linux joins 20 by itself (`net.ipv4.igmp_max_memberships`).
pub const MULTICAST_GROUPS_MAX: usize = 64;
/// Wrong passwords of one connection before it is closed.
pub const MASTER_TRIES_MAX: u32 = 5;
/// Wrong passwords from one address in a time before all are refused unseen.
pub const MASTER_TRIES_PER_ADDRESS_MAX: u32 = 10;
/// That time, in milliseconds.
pub const MASTER_TRIES_MS: u64 = 60_000;
/// Addresses whose wrong passwords are remembered; when there are more, the oldest is forgotten.
pub const MASTER_ADDRESSES_MAX: usize = 4096;
/// Pending connections of a listening socket (the kernel caps it at `net.core.somaxconn`).
pub const LISTEN_BACKLOG: i32 = 4096;
/// Entries of a ring's submission queue; the completion queue has four times as many.
pub const RING_ENTRIES: u32 = 1024;
/// Connections of one worker: the slot's bits of a connection id.
pub const CONNECTIONS_PER_WORKER_MAX: usize = 1 << 20;
/// Workers of a daemon: the worker's bits of a connection id.
pub const WORKERS_MAX: usize = 256;
/// A line of the line protocol, without its newline.
pub const LINE_BYTES_MAX: usize = 1024 * 1024;
/// A parked connection's unread input; reading stops there.
pub const INPUT_HIGH_BYTES: usize = 1024 * 1024;
/// An idle connection's input buffer of more than this is given back.
pub const INPUT_KEEP_BYTES: usize = 16 * 1024;
/// How long a peer may take to end its side after we ended ours, in milliseconds.
pub const LINGER_MS: u64 = 1000;
/// How long a peer that we close may take none of the bytes that are left for it, in milliseconds.
pub const FLUSH_STALL_MS: u64 = 10_000;
/// Plain bytes of a TLS connection that are encrypted ahead of the socket: more would only be kept twice.
pub const TLS_SEND_BYTES: usize = 128 * 1024;
/// Buffers for sending that a TLS connection keeps when it has nothing to send.
pub const TLS_KEEP_BYTES: usize = 1024;
/// How long a handshake, or the PROXY header before it, may take, in milliseconds.
pub const HANDSHAKE_MS: u64 = 10_000;
/// Addresses and networks whose PROXY headers one runtime believes: each accept looks through them.
pub const PROXY_SOURCES_MAX: usize = 256;
/// Certificates of one runtime: each handshake looks through them.
pub const CERTIFICATES_MAX: usize = 64;
/// How often certificate files are looked at for changes, in milliseconds.
pub const CERTIFICATE_CHECK_MS: u64 = 2_000;
/// The first failed handshake of a runtime in this time is logged; the others are counted, in milliseconds.
pub const HANDSHAKE_LOG_MS: u64 = 10_000;
/// How long a dial may take, in milliseconds.
pub const DIAL_TIMEOUT_MS: u64 = 5000;
/// How long one address of a client's target is dialled alone, in milliseconds; RFC 8305's Connection Attempt Delay.
pub const DIAL_STAGGER_MS: u64 = 250;
/// Addresses of a target that one round dials.
pub const DIAL_ADDRESSES_MAX: usize = 16;
/// Messages that a client keeps while nobody is connected, whatever their size.
pub const SEND_QUEUE_MESSAGES_MAX: usize = 64 * 1024;
/// Messages that wait for another thread to take them, in bytes; what may be dropped is dropped beyond, and counted.
pub const INBOX_BYTES_MAX: usize = 64 * 1024 * 1024;
/// What a waiting message counts beside its bytes.
pub const INBOX_MESSAGE_COST_BYTES: usize = 64;
/// The first pause before a client runtime dials again, in milliseconds.
pub const RECONNECT_MIN_MS: u64 = 100;
/// The longest such pause, in milliseconds.
pub const RECONNECT_MAX_MS: u64 = 30_000;
/// A pause in accepting when there is no file descriptor left, in milliseconds.
pub const ACCEPT_PAUSE_MS: u64 = 100;
/// How long handlers of a replaced generation may go on waiting, in milliseconds.
pub const GENERATION_DRAIN_MS: u64 = 30_000;
/// How often batches of one turn run, each round after the commands that waited for the last one.
pub const CACHE_ROUNDS_PER_TURN: usize = 4;

/// A worker that finds a store held looks again whether it is a replica after so long, in milliseconds.
pub const REPLICA_LOOK_MS: u64 = 5;
/// A replica dials its lost primary again after at least so long, in milliseconds.
pub const REPLICA_RETRY_MIN_MS: u64 = 100;

/// And after at most so long: failovers wait for it.
pub const REPLICA_RETRY_MAX_MS: u64 = 2_000;

/// So often a replica says how far it is, as Redis's do, in milliseconds.
pub const REPLICA_ACK_MS: u64 = 1_000;

/// Bytes of changes that are kept for replicas whose link was cut.
pub const REPLICA_BACKLOG_BYTES: usize = 16 * 1024 * 1024;

/// So often replicas hear something, in milliseconds: Redis's repl-ping-replica-period.
pub const REPLICA_PING_MS: u64 = 10_000;

/// After so much silence of its primary a replica dials anew: Redis's repl-timeout, in milliseconds.
pub const REPLICA_SILENCE_MS: u64 = 60_000;
/// A cache in use is looked after this often, in milliseconds.
pub const CACHE_MAINTAIN_MS: u64 = 100;
/// A cache that only waits for expiries is looked after this often, in milliseconds.
pub const CACHE_MAINTAIN_IDLE_MS: u64 = 1000;
/// A cache is told the process's memory and CPU time this often while it is in use, in milliseconds.
pub const CACHE_FIGURES_MS: u64 = 1000;
/// How often the VMs of a worker run in one turn before the ring has its turn again.
pub const APP_ROUNDS_PER_TURN: usize = 8;
/// A frame between the command line and the daemon.
pub const CONTROL_FRAME_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Instructions that a command or console line of the control VM may run without waiting: about half a second.
pub const CONTROL_INSTRUCTIONS_MAX: u64 = 100_000_000;
/// The control VM's heap.
pub const CONTROL_HEAP_BYTES_MAX: usize = 128 * 1024 * 1024;
/// What a command may put out before it waits for its caller to read.
pub const CONTROL_RUN_OUTPUT_BYTES: usize = 64 * 1024;
/// What waits in the daemon for a caller to read it; more isn't produced.
pub const CONTROL_OUTPUT_HIGH_BYTES: usize = 256 * 1024;
/// What waits at most (one whole frame may be on top of the high-water mark); the caller is dropped beyond it.
pub const CONTROL_OUTPUT_MAX_BYTES: usize = 2 * CONTROL_FRAME_BYTES_MAX;
/// Typed lines and stream items that wait for a command to take them.
pub const CONTROL_ITEMS_MAX: usize = 4096;
/// Levels of a JSON value that a script makes or reads (serde_json's own limit when reading).
pub const JSON_DEPTH_MAX: usize = 128;
/// A runtime's name.
pub const NAME_BYTES_MAX: usize = 128;
/// Databases of a store (`SELECT 0` to `SELECT 15`).
pub const DATABASES: usize = 16;
/// A string up to here lies in its key's allocation; longer ones in one of their own.
pub const STORE_INLINE_BYTES_MAX: usize = 4096;
/// A string value, as Redis's proto-max-bulk-len.
pub const STRING_BYTES_MAX: usize = 512 * 1024 * 1024;
/// Entries of a stream's node, Redis's stream-node-max-entries.
pub const STREAM_NODE_ENTRIES_MAX: usize = 100;
/// Changed keys that wait to be told to clients that track by broadcast; then they are told at once.
pub const TRACKING_CHANGES_MAX: usize = 4096;
/// Bytes of a stream's node, Redis's stream-node-max-bytes.
pub const STREAM_NODE_BYTES_MAX: usize = 4096;
/// Bytes of all fields and values of a stream's entry, as in Redis.
pub const STREAM_ENTRY_BYTES_MAX: usize = 1 << 30;
/// Elements that SRANDMEMBER, HRANDFIELD and ZRANDMEMBER show with repeats: Redis has no bound, and one command fills
/// the memory.
pub const RANDOM_REPEATS_MAX: usize = 1 << 24;

/// Events of one entry into a VM; it is entered when they are full.
pub const VM_EVENTS_MAX: usize = 1024;
/// Tries to go on with a batch that ran out of memory outside every handler.
pub const VM_RETRIES_MAX: u32 = 8;
/// The same error of a script is told once in this time; repeats are counted.
pub const SCRIPT_ERROR_REPEAT_MS: u64 = 10_000;
/// Different errors of a script that are remembered for that.
pub const SCRIPT_ERRORS_REMEMBERED_MAX: usize = 64;
/// Bytes that a script's socket holds for it before it stops reading.
pub const SCRIPT_INPUT_HIGH_BYTES: usize = 256 * 1024;
/// A line, or what comes before a delimiter, that a script receives.
pub const SCRIPT_RECEIVE_LINE_BYTES: usize = 1024 * 1024;
/// What a script receives in one piece.
pub const SCRIPT_RECEIVE_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Sockets of one generation of an app on one worker, those that are being dialled included.
pub const SCRIPT_SOCKETS_MAX: usize = if cfg!(test) { 64 } else { 4096 };
/// Options of TLS that scripts dial with and whose certificates are kept.
pub const SCRIPT_TLS_KEPT_MAX: usize = 64;
/// Random bytes that a script gets at once.
pub const SCRIPT_RANDOM_BYTES_MAX: usize = 1024 * 1024;
/// A compiled regular expression of a script, and what it keeps while it matches.
pub const SCRIPT_REGEX_BYTES_MAX: usize = 1024 * 1024;
/// CPU time of a whole file of tests without a wait.
pub const STAGE_BUDGET_MS: u32 = 10_000;
/// Turns of the worker that `socketley test` waits for one thing.
pub const STAGE_TURNS_MAX: usize = 20_000_000;
/// Virtual time that passes meanwhile.
pub const STAGE_VIRTUAL_MS_MAX: u64 = 30 * 86_400_000;
/// A file that a script reads.
pub const SCRIPT_FILE_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// Threads for work that would block a worker: lookups of names, files of scripts.
pub const ERRAND_THREADS_MAX: usize = 4;
/// Errands of scripts that wait for such a thread.
pub const ERRANDS_MAX: usize = 1024;
/// Tables inside tables in what a script hands over as data.
pub const SCRIPT_DATA_DEPTH_MAX: usize = 64;

const _: () =
    assert!(RECEIVE_BUFFERS_START.is_power_of_two() && RECEIVE_BUFFERS_START <= RECEIVE_BUFFERS);
const _: () = assert!(SCRIPT_INPUT_HIGH_BYTES < SCRIPT_RECEIVE_LINE_BYTES);
const _: () = assert!(SCRIPT_RECEIVE_LINE_BYTES < SCRIPT_RECEIVE_BYTES_MAX);
const _: () = assert!(RECEIVE_BUFFERS.is_power_of_two() && RECEIVE_BUFFERS <= 1 << 15);
const _: () = assert!(OUTBOX_LOW_BYTES < OUTBOX_HIGH_BYTES && OUTBOX_HIGH_BYTES < OUTBOX_MAX_BYTES);
const _: () = assert!(LINE_BYTES_MAX <= INPUT_HIGH_BYTES);

/// A RESP request's inline line and the lines of its lengths; Redis's PROTO_INLINE_MAX_SIZE.
pub const RESP_LINE_BYTES_MAX: usize = 64 * 1024;
/// One argument of a RESP request; Redis's proto-max-bulk-len.
pub const RESP_BULK_BYTES_MAX: usize = 512 * 1024 * 1024;
/// One whole RESP request; Redis's client-query-buffer-limit. Offsets inside it fit 32 bits.
pub const RESP_REQUEST_BYTES_MAX: usize = 1024 * 1024 * 1024;
/// Arguments of a request before authentication.
pub const RESP_UNAUTHENTICATED_ARGUMENTS_MAX: usize = 10;
/// One argument before authentication.
pub const RESP_UNAUTHENTICATED_BULK_BYTES_MAX: usize = 16 * 1024;
/// Values inside values of a reply that is read.
pub const RESP_REPLY_DEPTH_MAX: usize = 64;
/// A whole reply that is read.
pub const RESP_REPLY_BYTES_MAX: usize = 1024 * 1024 * 1024;
/// Commands executed in one hold of a store's lock: 30-50 us, so that other workers and scripts get in.
pub const STORE_HOLD_COMMANDS_MAX: usize = 512;
/// Commands whose buckets and entries are prefetched together.
pub const STORE_PREFETCH_COMMANDS: usize = 32;
/// Keys that one command removes at most to get below `maxmemory`; a millisecond. The next commands go on.
pub const EVICT_PER_COMMAND: usize = 1000;
/// Channels (or patterns, or shard channels) that one client listens to.
pub const SUBSCRIPTIONS_PER_CLIENT_MAX: usize = 1 << 20;
/// Messages that wait for a client whose class has no limit of its own; it is closed beyond. Replies don't count to it,
/// they stop at the high-water mark.
pub const OUTBOX_PUSH_MAX_BYTES: usize = 256 * 1024 * 1024;
/// Messages that wait for a worker to open its letters; one that is busy for so long loses the clients they were for.
pub const MAILBOX_BYTES_MAX: usize = 256 * 1024 * 1024;
/// How long a worker waits for a store's lock before it serves everything else first, in microseconds.
pub const STORE_LOCK_WAIT_US: u64 = 200;

const _: () = assert!(RESP_BULK_BYTES_MAX < RESP_REQUEST_BYTES_MAX);
const _: () = assert!(RESP_REQUEST_BYTES_MAX < u32::MAX as usize);
const _: () = assert!(STORE_HOLD_COMMANDS_MAX.is_multiple_of(STORE_PREFETCH_COMMANDS));
/// Log records kept in memory for `logs`.
pub const LOG_RECORDS: usize = 4096;
/// Bytes of one record's text; a traceback fits, a runaway string doesn't.
pub const LOG_TEXT_BYTES_MAX: usize = 16 * 1024;
/// Bytes of one log file.
pub const LOG_FILE_BYTES_MAX: u64 = 8 * 1024 * 1024;
/// Log files kept: the present one and older ones.
pub const LOG_FILES: usize = 4;
/// Records or messages that wait for one subscriber; what is more is dropped and counted.
pub const SUBSCRIPTION_FRAMES_MAX: usize = 1024;
/// Clients connected to the control socket at a time.
pub const CONTROL_CLIENTS_MAX: usize = 256;
/// How long a worker may take to take in a runtime or to answer a question about one.
pub const WORKER_ANSWER_MS: u64 = 10_000;
/// How long a stopping runtime may go on sending what it has.
pub const DRAIN_MS: u64 = 5_000;
/// How long a file must be quiet before it is loaded again: editors write in several steps.
pub const RELOAD_QUIET_MS: u64 = 60;
/// CPU time of one handler.
pub const SCRIPT_BUDGET_MS: u32 = 50;
/// An app VM's heap.
pub const SCRIPT_MEMORY_BYTES: usize = 256 * 1024 * 1024;
/// A file of Lua source.
pub const SOURCE_BYTES_MAX: u64 = 16 * 1024 * 1024;
/// How long an operation waits for the addresses of names.
pub const LOOKUP_MS: u64 = 3_000;
/// When names that are in use are looked up again.
pub const LOOKUP_REFRESH_MS: u64 = 30_000;
/// When a name that couldn't be found is tried again.
pub const LOOKUP_AGAIN_MS: u64 = 10_000;
/// Operations that wait for one name.
pub const OPERATIONS_PER_NAME_MAX: usize = 256;
/// One wait of a command that goes on (`socketley top`).
pub const COMMAND_WAIT_MS_MAX: u64 = 3_600_000;
/// Runtimes of a daemon.
pub const RUNTIMES_MAX: usize = 10_000;
/// A drain that someone asks for.
pub const DRAIN_MS_MAX: u64 = 3_600_000;
/// Receive buffers of the control thread: a few clients with short requests.
pub const CONTROL_RECEIVE_BUFFERS: usize = 32;
/// Entries of the control thread's submission queue.
pub const CONTROL_RING_ENTRIES: u32 = 128;
/// A WebSocket message, if its runtime doesn't say otherwise; inflated, if it is compressed.
pub const WEBSOCKET_MESSAGE_BYTES_MAX: usize = 16 * 1024 * 1024;
/// The largest such bound that a runtime may name.
pub const WEBSOCKET_MESSAGE_BYTES_LIMIT: u64 = 1024 * 1024 * 1024;
/// The longest times of a WebSocket's pings, in milliseconds.
pub const WEBSOCKET_PING_MS_MAX: u64 = 86_400_000;
/// What an idle WebSocket keeps of the buffer that gathered its last message.
pub const WEBSOCKET_KEEP_BYTES: usize = 512;
/// What a worker keeps of the buffers that its WebSockets share.
pub const WEBSOCKET_SCRATCH_KEEP_BYTES: usize = 1024 * 1024;
/// What the outbox of a connection that drops its oldest messages is fed up to: bytes there can't be dropped.
pub const BACKLOG_FEED_BYTES: usize = 64 * 1024;
/// The smallest bound of what may wait for a connection that a runtime may name.
pub const BACKLOG_BYTES_MIN: u64 = 64 * 1024;
/// The largest.
pub const BACKLOG_BYTES_LIMIT: u64 = 1024 * 1024 * 1024;
/// Bytes of changes that may wait to be written to a cache's append log; beyond, the log is written anew.
pub const FEED_WAITING_BYTES_MAX: usize = 256 << 20;
/// Bytes that one write to an append log gathers at most.
pub const LOG_WRITE_BYTES_MAX: usize = 8 << 20;
/// Entries of a snapshot's step, whose time the store is held.
pub const SAVE_STEP_ENTRIES: usize = 256;
/// Bytes of such a step at most, but for the last entry's.
pub const SAVE_STEP_BYTES: usize = 64 * 1024;
/// Bytes of a snapshot after which it is synced.
pub const SAVE_SYNC_BYTES: usize = 32 << 20;
/// Bytes that a load reads at once.
pub const LOAD_READ_BYTES: usize = 256 * 1024;
/// Broadcasts of one run are delivered together up to this size.
pub const BROADCAST_GATHERED_BYTES_MAX: usize = 64 * 1024;
/// How often a runtime's WebSockets are looked after at most, in milliseconds.
pub const WEBSOCKET_PING_PERIOD_MS_MIN: u64 = 50;
/// A WebSocket that has been silent for so long is pinged, in milliseconds, if its runtime doesn't say otherwise.
pub const WEBSOCKET_PING_MS: u64 = 30_000;
/// How long it may take to answer, in milliseconds, if its runtime doesn't say otherwise.
pub const WEBSOCKET_PING_TIMEOUT_MS: u64 = 20_000;
/// Messages below this are sent as they are: compressing them costs more than it saves.
pub const WEBSOCKET_DEFLATE_BYTES_MIN: usize = 256;
/// The effort of compressing messages, of 9: the lowest that fits its codes to the message.
pub const WEBSOCKET_DEFLATE_LEVEL: u32 = 2;
/// The head of a server's answer to a WebSocket's handshake.
pub const WEBSOCKET_ANSWER_BYTES_MAX: usize = 16 * 1024;
/// A store VM's heap.
pub const STORE_VM_MEMORY_BYTES: usize = 256 * 1024 * 1024;
/// Scripts that came by EVAL alone and are remembered; Redis 7.4's number.
pub const SCRIPTS_EVALED_MAX: usize = 500;
/// The last text of EVAL is kept to be told by its bytes, up to this size.
pub const SCRIPT_TEXT_KEPT_BYTES_MAX: usize = 16 * 1024;
/// How long a script may run before its worker looks after others; Redis serves nobody meanwhile.
pub const SCRIPT_SLICE_MS: u32 = 10;
/// How long a script keeps others waiting before they are told that it is busy: Redis's default.
pub const BUSY_REPLY_THRESHOLD_MS: u32 = 5000;
/// How long the top level of a library of functions may run: Redis's bound.
pub const FUNCTION_LOAD_MS: u32 = 500;
/// Lines that scripts of one store wrote to the log and nobody took yet.
pub const SCRIPT_LOGS_MAX: usize = 256;

/// Bytes of one key with its value in an RDB file, as far as a reader waits for the rest of it: a value of 4 GB and some.
pub const RDB_ITEM_BYTES_MAX: usize = 5 << 30;
/// Arguments of a command in Lua: they lie on a stack that LuaJIT bounds.
pub const LUA_COMMAND_ARGUMENTS_MAX: usize = 7_000;
/// A command's name in Lua.
pub const LUA_COMMAND_NAME_BYTES_MAX: usize = 64;
/// Commands in Lua of one cache.
pub const LUA_COMMANDS_MAX: usize = 1024;
/// Events of a cache that wait for its app's hooks; the newest is dropped and counted.
pub const HOOK_EVENTS_MAX: usize = 65_536;
/// Bytes of such events.
pub const HOOK_QUEUE_BYTES_MAX: usize = 32 * 1024 * 1024;
/// A key's value that a hook is told; of a larger one only that it is.
pub const HOOK_VALUE_BYTES_MAX: usize = 1024 * 1024;
/// Messages of channels that wait for one `pubsub.on`; the newest is dropped and counted.
pub const FEED_MESSAGES_MAX: usize = 10_000;
/// Bytes of such messages.
pub const FEED_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Channels and patterns that one app listens to.
pub const LISTENS_PER_APP_MAX: usize = 10_000;
/// Events that an app takes at once; it takes more when their handlers have ended.
pub const HOOK_BATCH_EVENTS: usize = 256;
/// Keys that `on_miss` is asked for at a time; commands that miss more are refused.
pub const MISS_FLIGHTS_MAX: usize = 1024;
/// Commands and handlers that wait for `on_miss`.
pub const MISS_WAITERS_MAX: usize = 16 * 1024;
/// How long one of them waits, in milliseconds.
pub const MISS_WAIT_MS: u64 = 5_000;
/// When a key is asked for again although `on_miss` still has to answer, in milliseconds.
pub const MISS_FLIGHT_MS: u64 = 30_000;
/// Changed keys that wait to be written behind; a change of one more is forgotten and counted.
pub const BEHIND_KEYS_MAX: usize = 100_000;
/// Keys of one batch, unless the cache says otherwise.
pub const BEHIND_BATCH_KEYS: usize = 500;
/// The most that a cache may ask for: they are read in one hold of the lock.
pub const BEHIND_BATCH_KEYS_MAX: u64 = 1_000;
/// A batch takes no more keys when its values have so many bytes.
pub const BEHIND_BATCH_BYTES_MAX: usize = 4 * 1024 * 1024;
/// How long changes wait to be written behind, unless the cache says otherwise, in milliseconds.
pub const BEHIND_EVERY_MS: u64 = 1_000;
/// The longest pause after batches that failed, in milliseconds.
pub const BEHIND_PAUSE_MAX_MS: u64 = 60_000;

const _: () = assert!(HOOK_VALUE_BYTES_MAX < HOOK_QUEUE_BYTES_MAX);
const _: () = assert!(MISS_WAIT_MS < MISS_FLIGHT_MS);
