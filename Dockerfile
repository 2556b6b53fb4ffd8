# Three images of one build: `docker build --target es-mcp -t es-mcp:latest .`, likewise pg-mcp, and seed for the sample data.
# The platform takes a locally loaded image only if its name has neither `/` nor `.` in it.

FROM node:24-bookworm-slim AS build
WORKDIR /source
COPY package.json pnpm-lock.yaml pnpm-workspace.yaml ./
# package.json alone says which pnpm.
RUN npm install --global --no-audit --no-fund "$(node --print 'require("./package.json").packageManager')"
COPY . .
# Of packages that are not built only the manifests are here: the engines of the tests are none of an image's business.
# No install script runs: nothing here needs what they bring.
RUN --mount=type=cache,id=es-to-pg-pnpm,target=/pnpm \
    pnpm config set store-dir /pnpm/store --global && pnpm config set cache-dir /pnpm/cache --global \
 && pnpm install --frozen-lockfile --prefer-offline --ignore-scripts --filter es-mcp --filter pg-mcp --filter seed \
      --filter staging --filter mcp-kit --filter job-page \
 && pnpm exec tsc -b packages/es-mcp packages/pg-mcp seed \
 && node packages/job-page/build.mjs
# By the same lock file, with production dependencies only, and copies in place of links into the workspace.
RUN --mount=type=cache,id=es-to-pg-pnpm,target=/pnpm \
    for name in es-mcp pg-mcp seed; do \
      pnpm --config.inject-workspace-packages=true --filter "$name" deploy --prod "/deployed/$name" || exit; \
    done

FROM node:24-bookworm-slim AS server
# One uid and gid in both images: what one server stages, the other one reads. The group bit keeps it so for what is made inside.
RUN groupadd --gid 10001 mcp \
 && useradd --uid 10001 --gid mcp --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin mcp \
 && mkdir /staging && chown mcp:mcp /staging && chmod 2770 /staging
WORKDIR /app
# Off loopback, because in a container nobody could call loopback; `--http` then asks for MCP_HTTP_TOKEN.
ENV NODE_ENV=production STAGING_URL=file:///staging MCP_HTTP_HOST=0.0.0.0
VOLUME /staging
EXPOSE 8080
# By number: Kubernetes cannot tell from a name whether it is root's.
USER 10001:10001
ENTRYPOINT ["node", "/app/dist/main.js"]
# Empty: the server then speaks on stdin and stdout. `--http` is the one argument there is.
CMD []
# No HEALTHCHECK: a server on a pipe has no port to ask. Where it serves HTTP, ask /readyz as docker-compose.yml does.
ARG VERSION=0.1.0
# The address of the repository that this was built from.
ARG SOURCE=
LABEL org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="$VERSION" \
      org.opencontainers.image.source="$SOURCE"

FROM server AS es-mcp
LABEL org.opencontainers.image.title="es-mcp" \
      org.opencontainers.image.description="MCP server: Elasticsearch to a staged export" \
      io.modelcontextprotocol.server.name="io.github.es-to-pg/es-mcp"
COPY --from=build /deployed/es-mcp /app

FROM server AS pg-mcp
LABEL org.opencontainers.image.title="pg-mcp" \
      org.opencontainers.image.description="MCP server: a staged export to PostgreSQL" \
      io.modelcontextprotocol.server.name="io.github.es-to-pg/pg-mcp"
COPY --from=build /deployed/pg-mcp /app

FROM node:24-bookworm-slim AS seed
WORKDIR /app
ENV NODE_ENV=production
USER node
ENTRYPOINT ["node", "/app/dist/main.js"]
CMD []
COPY --from=build /deployed/seed /app
