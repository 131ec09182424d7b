FROM node:20-alpine AS deps
WORKDIR /app
COPY ["package.json", "package-lock.json*", "./"]
RUN npm ci --omit=dev

FROM node:20-alpine AS build
WORKDIR /app
COPY --from=deps /app/node_modules node_modules
COPY . .
RUN npm run build && npm prune --production

FROM gcr.io/distroless/nodejs20-debian12:nonroot@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef
WORKDIR /app
ENV NODE_ENV=production
COPY --from=build --link /app/dist /app/dist
COPY --from=1 /app/package.json .
STOPSIGNAL SIGINT
VOLUME ["/app/data", "/app/my uploads"]
CMD ["dist/server.js"]
