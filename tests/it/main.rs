//! Scenarios against the real program, one file per behaviour.
//!
//! Scenario files import only `support`. A random scenario prints its seed when it fails; `WSCAST_TEST_SEED` repeats it.
//! A test that cannot run here appends a line to the file that `WSCAST_SKIPPED` names.
//!
//! | file | shows |
//! |---|---|
//! | `accept_queue` | many clients that connect at once |
//! | `access_log` | a line for each request and stream, as text and as JSON |
//! | `address_limits` | limits per client address: connections, handshakes, HTTP requests, token attempts |
//! | `auth_hook` | a backend decides who a client is and what it may do; without an answer nobody is let in |
//! | `backup` | copies of a running server's database, and their restore |
//! | `bench_command` | `wscast bench`: each delivery is counted, losses, Ctrl-C, the search for the number of clients |
//! | `bodies` | request bodies are read only after route, method and token were accepted |
//! | `broadcast` | a message reaches every member of its room, with its payload unchanged |
//! | `byte_order_mark` | a byte order mark is skipped in JSON, secrets and certificates |
//! | `chunk_smuggling` | transfer codings and chunks that two servers could read differently |
//! | `chunked` | request bodies in chunks, and the content types of JSON |
//! | `clock` | the wall clock steps: repeated ids are recognized, numbering continues |
//! | `closing` | violations of the WebSocket protocol, close codes, the close handshake |
//! | `commands` | `serve`, `version`, `-h`, misspelt words, and what the start prints on a terminal |
//! | `compression` | files of the program as gzip, and their ETags |
//! | `connection_limits` | all connections or descriptors are in use |
//! | `cors` | preflights, and the origins whose pages may read responses |
//! | `crash` | the server is killed at random moments; acknowledged messages survive once |
//! | `damage` | damaged messages are a gap that readers learn of; health is degraded |
//! | `docs` | the documentation that the program serves: pages, links, the description of the routes |
//! | `drain_delay` | a balancer sees the shutdown before clients are closed |
//! | `dual_stack` | IPv4 and IPv6 on one port, and names of addresses |
//! | `echo` | `echo: false`: an acknowledgement in place of the publisher's own message |
//! | `environment` | variables of other programs, wrong and misspelt ones |
//! | `event_streams_of_rooms` | one event stream of several rooms, resumed as one |
//! | `event_streams` | event streams as an `EventSource` uses them: start, resume, refusals |
//! | `failed_sync` | a disk that fails to sync: the outcome of a publish is unknown |
//! | `floods` | floods of pings, messages and connections; a thousand clients that stop reading |
//! | `handshake` | the opening handshake: accepted and refused requests |
//! | `healthcheck` | `wscast healthcheck` over TCP, TLS and Unix sockets |
//! | `hostile_clients` | garbage, resets, deep JSON, huge lengths, random frames |
//! | `hostile_http` | slow, endless and forged requests |
//! | `hostile_tls` | attacks on TLS itself |
//! | `http_messages` | a room over HTTP: pages of history, publishing, event streams |
//! | `http` | routes: responses, headers, methods, caching, encodings |
//! | `keep_alive` | several requests on one connection: order, deadlines, bodies |
//! | `large_rooms` | rooms with hundreds of members, to which helper threads send too |
//! | `liveness` | heartbeats: silent clients are pinged and disconnected |
//! | `load` | a crowd in which some clients never read |
//! | `logs` | where the log goes, its levels, and what never appears in it |
//! | `message_order` | many publishers, one order for all members |
//! | `newest` | `last`: the newest stored messages come first on joining |
//! | `new_rooms` | idle rooms make space for new ones; limits per client address of new rooms |
//! | `nearly_full_disk` | a disk with a few MiB left: the server's log never fills it for good |
//! | `nodes` | several nodes on one Redis: numbering, faults, kills, presence, Redis Cluster |
//! | `origins` | the origins whose pages may open a WebSocket |
//! | `page_rejections` | a page reads in a Close frame why it cannot connect |
//! | `presence_state` | what clients show to the members of a room, and since when they are there |
//! | `presence_users` | lists of members name the user of each client |
//! | `paths` | spellings of paths: a slash at the end, and none that bypasses a rule |
//! | `presence` | updates about members that join and leave |
//! | `probes` | `/health/live` and `/health/ready` of working, closing and stuck servers |
//! | `protocol` | invalid requests and their error codes |
//! | `proxy` | client addresses from trusted proxies: headers and the PROXY protocol |
//! | `proxy_protocol` | version 1 of the PROXY protocol, probes without a header, and what the log says |
//! | `publish_command` | `wscast pub`: each line is stored once, also across restarts; refused lines, rates, memory |
//! | `rate_limits` | limits per connection: requests and bytes per second |
//! | `request_limits` | heads and bodies that come slowly, are too large or never end |
//! | `resume` | a client that reconnects gets every missed message once |
//! | `publishing` | text and several messages at once over HTTP |
//! | `removed_messages` | deleted messages, and those whose ttl has ended, in memory and on disk |
//! | `rollback` | database, log and mark of different moments: numbering restarts |
//! | `rollback_at_random` | the same at random, with damaged files |
//! | `room_limits` | members per room, rooms per server |
//! | `room_names` | names in any script and normal form, in addresses, messages, tokens and old databases |
//! | `room_rules` | rules for rooms by name: history, members, publishers, presence, sizes; a reload |
//! | `rooms` | joining, leaving, offsets, and rooms that empty |
//! | `settings` | flags, variables, defaults, and the line that each mistake gets |
//! | `settings_file` | the settings file: precedence, every setting, mistakes, hostile files |
//! | `settings_reload` | SIGHUP reads the settings file again |
//! | `shutdown` | pending messages, closes, the drain, signals |
//! | `signals` | SIGHUP of a terminal, of logrotate and of nohup; ignored signals |
//! | `slow_consumers` | eviction of clients that do not read; bounded memory |
//! | `smuggling` | requests that two servers could read differently |
//! | `stats` | /health, /stats and /metrics |
//! | `storage_faults` | a disk that is full, read-only, locked, moved or damaged |
//! | `storage` | history on disk: restarts, limits, copies, foreign files |
//! | `sub` | `wscast sub`: lines, resume across restarts, gaps, closed pipes, refusals |
//! | `subprotocols` | one of the offered subprotocols is chosen; a token as a subprotocol |
//! | `systemd` | ready, stopping and alive, as a service manager is notified |
//! | `tls` | https and wss, and a certificate that changes |
//! | `token_claims` | tokens as other programs write them: empty, null and numeric claims, other algorithms |
//! | `token_cookies` | tokens in cookies, and those of pages of other sites |
//! | `token_key_files` | public keys in every form that is read, and those that no algorithm can use |
//! | `token_key_url` | keys at a URL: rotation, outages, and hostile servers |
//! | `token_keys` | secrets, public keys, and the `token` command |
//! | `token_lifetime` | expiry, renewal, administrators who close clients |
//! | `token_revocation` | a revoked user: closed and refused, over restarts, on all nodes, under load |
//! | `token_rights` | every route and message against every kind of token |
//! | `token_secrets` | several named secrets |
//! | `unfinished_messages` | fragments without end, and how they are ended |
//! | `unix_sockets` | `--listen unix:PATH` |
//! | `unusable_paths` | paths that cannot be created or written: which directory, which user |
//! | `user_rooms` | rooms of users: who enters them, by every route and spelling |
//! | `webhooks` | rooms and users are reported to a backend: signed, in time, and right after each fault |

#![expect(unreachable_pub, reason = "a test crate has no users")]

mod accept_queue;
mod access_log;
mod address_limits;
mod auth_hook;
mod backup;
mod bench_command;
mod bodies;
mod broadcast;
mod byte_order_mark;
mod chunk_smuggling;
mod chunked;
mod clock;
mod closing;
mod commands;
#[cfg(feature = "docs")]
mod compression;
mod connection_limits;
mod cors;
mod crash;
mod damage;
#[cfg(feature = "docs")]
mod docs;
mod drain_delay;
mod dual_stack;
mod echo;
mod environment;
mod event_streams;
mod event_streams_of_rooms;
mod failed_sync;
mod floods;
mod handshake;
mod healthcheck;
mod hostile_clients;
mod hostile_http;
mod hostile_tls;
mod http;
mod http_messages;
mod keep_alive;
mod large_rooms;
mod liveness;
mod load;
mod logs;
mod message_order;
mod nearly_full_disk;
mod new_rooms;
mod newest;
mod nodes;
mod origins;
mod page_rejections;
mod paths;
mod presence;
mod presence_state;
mod presence_users;
mod probes;
mod protocol;
mod proxy;
mod proxy_protocol;
mod publish_command;
mod publishing;
mod rate_limits;
mod removed_messages;
mod request_limits;
mod resume;
mod reused_threads;
mod rollback;
mod rollback_at_random;
mod rollback_of_marks;
mod room_limits;
mod room_names;
mod room_rules;
mod rooms;
mod settings;
mod settings_file;
mod settings_reload;
mod shutdown;
mod signals;
mod slow_consumers;
mod smuggling;
mod stats;
mod storage;
mod storage_faults;
mod sub;
mod subprotocols;
mod support;
mod systemd;
mod tls;
mod token_claims;
mod token_cookies;
mod token_key_files;
mod token_key_url;
mod token_keys;
mod token_lifetime;
mod token_revocation;
mod token_rights;
mod token_secrets;
mod unfinished_messages;
mod unix_sockets;
mod unusable_paths;
mod user_rooms;
mod webhooks;
