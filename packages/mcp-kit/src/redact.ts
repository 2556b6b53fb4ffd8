/** Passwords in addresses: `postgres://user:secret@host`. Drivers like to quote the address they failed to reach. */
const PASSWORD_IN_ADDRESS = /(\b[a-z][a-z0-9+.-]{0,30}:\/\/[^\s:/@"]*):[^\s/"]*@/gi;

/** The text without passwords of addresses in it. */
export function withoutPasswords(text: string): string {
  return text.replaceAll(PASSWORD_IN_ADDRESS, "$1:***@");
}

/**
 * The text without the phrases that make an MCP host replace an error by "your credentials expired, sign in again":
 * they come in drivers' messages about quite other things.
 */
export function withoutHostPhrases(text: string): string {
  return text
    .replaceAll(/(invalid)[ _](token|bearer)/gi, "$1-$2")
    .replaceAll(/(token)[ _](expired)/gi, "$1-$2")
    .replaceAll(/(expired)[ _](token)/gi, "$1-$2")
    .replaceAll(/(bearer) (realm=)/gi, "$1-$2");
}
