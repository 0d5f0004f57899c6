// Shopify's own kit for apps: signs a body, or says whether it takes a webhook for genuine.
//
// One line of JSON per question on standard input, one per answer on standard output.

import "@shopify/shopify-api/adapters/node";
import { createInterface } from "node:readline";
import { shopifyApi, ApiVersion } from "@shopify/shopify-api";
import { createSHA256HMAC } from "@shopify/shopify-api/runtime";

const shop = (apiSecretKey) =>
  shopifyApi({
    apiKey: "key",
    apiSecretKey,
    apiVersion: ApiVersion.July26 ?? Object.values(ApiVersion).at(-1),
    hostName: "example.com",
    isEmbeddedApp: false,
    logger: { level: 0 },
  });

const answers = {
  sign: async ({ secret, body }) => ({ signature: await createSHA256HMAC(secret, body) }),
  validate: async ({ secret, body, headers }) => {
    const rawRequest = { method: "POST", url: "/webhooks", headers };
    const { valid, reason } = await shop(secret).webhooks.validate({
      rawBody: body,
      rawRequest,
      rawResponse: {},
    });
    return { valid, reason };
  },
};

for await (const line of createInterface({ input: process.stdin })) {
  const question = JSON.parse(line);
  console.log(JSON.stringify(await answers[question.ask](question)));
}
