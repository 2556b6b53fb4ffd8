/** What a server needs to reach an Elasticsearch: the caller's own settings, and the credentials of a URL apart from it. */
export function elasticsearchEnvironment(url: string): Record<string, string> {
  const given = Object.entries(process.env).filter(([name]) => name.startsWith("ELASTICSEARCH_"));
  const address = new URL(url);
  const { username, password } = address;
  address.username = "";
  address.password = "";
  return {
    ...Object.fromEntries(given.map(([name, value]) => [name, value ?? ""])),
    ELASTICSEARCH_URL: address.href,
    ...(username === ""
      ? {}
      : { ELASTICSEARCH_USERNAME: decodeURIComponent(username), ELASTICSEARCH_PASSWORD: decodeURIComponent(password) }),
  };
}
