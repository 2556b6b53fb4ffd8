/** A way to an engine that this machine does not offer; the message says what is missing. */
export class Unavailable extends Error {}
