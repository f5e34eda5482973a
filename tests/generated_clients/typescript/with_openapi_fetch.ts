// The types are of openapi-typescript, the calls of openapi-fetch.
import createClient from "openapi-fetch";
import type { components, paths } from "./mailing.js";

declare const process: { argv: string[] };

const [, , address = "", key = "", draft = "", startsAt = "", endsAt = ""] = process.argv;
const api = createClient<paths>({ baseUrl: address, headers: { Authorization: `Bearer ${key}` } });

async function must<T>(call: Promise<{ data?: T; error?: components["schemas"]["Problem"] }>): Promise<T> {
  const { data, error } = await call;
  if (error) throw new Error(`${error.status} ${error.title}`);
  return data!;
}

async function finished(mailing_id: number): Promise<components["schemas"]["MailingStatistics"]> {
  for (;;) {
    const read = await must(api.GET("/mailing/api/statistics/{mailing_id}", { params: { path: { mailing_id } } }));
    if (read.status === "finished") return read;
    await new Promise((resume) => setTimeout(resume, 50));
  }
}

for (const phone of ["79161234567", "79161234568"])
  await must(api.POST("/mailing/api/clients", { body: { phone, timezone: "UTC" } }));
const body = { text: "Hello", starts_at: startsAt, ends_at: endsAt };
const preview = await must(api.POST("/mailing/api/mailings/preview", { body }));
const mailing = await must(api.POST("/mailing/api/mailings", { body }));
const path = { mailing_id: Number(draft) };
const read = await must(api.GET("/mailing/api/mailings/{mailing_id}", { params: { path } }));
await must(api.POST("/mailing/api/mailings/{mailing_id}/release", { params: { path, query: { revision: read.revision } } }));
const statistics = [await finished(mailing.id), await finished(read.id)];
const missing = await api.GET("/mailing/api/clients/{client_id}", { params: { path: { client_id: 999 } } });
console.log(JSON.stringify({
  recipients: preview.recipients,
  sent: statistics.map((each) => each.counts.sent),
  statuses: statistics.flatMap((each) => each.messages.items.map((message) => message.status)),
  missing: missing.error?.status,
}));
