/** The settings of this server, by the name of their variable. */
export interface EsSettings {
  readonly ELASTICSEARCH_URL: readonly URL[];
  readonly ELASTICSEARCH_API_KEY?: string | undefined;
  readonly ELASTICSEARCH_USERNAME?: string | undefined;
  readonly ELASTICSEARCH_PASSWORD?: string | undefined;
  readonly ELASTICSEARCH_BEARER?: string | undefined;
  readonly ELASTICSEARCH_CLOUD_ID?: string | undefined;
  readonly ELASTICSEARCH_CA_CERT?: string | undefined;
  readonly ELASTICSEARCH_TLS_FINGERPRINT?: string | undefined;
  readonly ELASTICSEARCH_CLIENT_CERT?: string | undefined;
  readonly ELASTICSEARCH_CLIENT_KEY?: string | undefined;
  readonly ELASTICSEARCH_TLS_INSECURE: boolean;
  readonly ES_MCP_INDICES_ALLOW: readonly string[];
  readonly ES_MCP_INDICES_DENY: readonly string[];
  readonly ES_MCP_REQUEST_TIMEOUT_SECONDS: number;
}
