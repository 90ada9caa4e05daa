/** The client's first address, kept for programs that import it from here. The client is in `client/`. */

export * from './client/client.js';
