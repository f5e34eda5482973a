// The functions and types are of @hey-api/openapi-ts.
import * as api from "./mailing";
import { client } from "./mailing/client.gen";

declare const process: { argv: string[]; exitCode: number };

const [, , address = "", key = "", draft = "", startsAt = "", endsAt = ""] = process.argv;

async function finished(mailing_id: number): Promise<api.MailingStatistics> {
  for (;;) {
    const { data } = await api.mailingStatistics({ path: { mailing_id }, throwOnError: true });
    if (data.status === "finished") return data;
    await new Promise((resume) => setTimeout(resume, 50));
  }
}

async function run(): Promise<void> {
  client.setConfig({ baseUrl: address, auth: key });
  for (const phone of ["79161234567", "79161234568"])
    await api.createClient({ body: { phone, timezone: "UTC" }, throwOnError: true });
  const body: api.MailingIn = { text: "Hello", starts_at: startsAt, ends_at: endsAt };
  const preview = await api.previewMailing({ body, throwOnError: true });
  const mailing = await api.createMailing({ body, throwOnError: true });
  const path = { mailing_id: Number(draft) };
  const read = await api.readMailing({ path, throwOnError: true });
  await api.releaseMailing({ path, query: { revision: read.data.revision }, throwOnError: true });
  const statistics = [await finished(Number(mailing.data.id)), await finished(path.mailing_id)];
  const missing = await api.readClient({ path: { client_id: 999 } });
  console.log(JSON.stringify({
    recipients: preview.data.recipients,
    sent: statistics.map((each) => each.counts.sent),
    statuses: statistics.flatMap((each) => each.messages.items.map((message) => message.status)),
    missing: missing.error?.status,
  }));
}

run().catch((error: unknown) => {
  console.error(error);
  process.exitCode = 1;
});
