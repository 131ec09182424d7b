// A small service: GET / tells how long it has been running.
const polka = require("polka");
const ms = require("ms");

const port = Number(process.env.PORT || 3000);

polka()
  .get("/", (request, response) => {
    response.setHeader("content-type", "application/json");
    response.end(JSON.stringify({ greeting: "hello", uptime: ms(Math.round(process.uptime() * 1000)) }));
  })
  .listen(port, () => console.log(`listening on ${port}`));

process.on("SIGTERM", () => process.exit(0));
