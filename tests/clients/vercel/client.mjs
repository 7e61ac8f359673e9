// The Vercel AI SDK through one of its providers: text, streams, a tool that must be called, an object.
import assert from "node:assert/strict";
import { createAnthropic } from "@ai-sdk/anthropic";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { embedMany, generateText, Output, streamText, tool } from "ai";
import { z } from "zod";

const url = process.env.CARAVAN_URL;
const provider = process.argv[2];
const providers = {
  "openai-compatible": () =>
    createOpenAICompatible({
      name: "caravan",
      baseURL: `${url}/v1`,
      supportsStructuredOutputs: true,
      includeUsage: true, // in streams; off by default
    }),
  anthropic: () => createAnthropic({ baseURL: `${url}/anthropic/v1`, apiKey: "none" }),
};
const caravan = providers[provider]();
const model = caravan("ai/smollm2");
const short = { model, temperature: 0, maxOutputTokens: 48, maxRetries: 0 };

const whole = await generateText({ ...short, system: "Be brief.", prompt: "What is the capital of France?" });
assert.ok(whole.text.length > 0);
assert.ok(whole.usage.outputTokens > 0);
assert.ok(["stop", "length"].includes(whole.finishReason), whole.finishReason);

const pieces = [];
const stream = streamText({ ...short, prompt: "Count to five." });
for await (const piece of stream.textStream) pieces.push(piece);
assert.ok(pieces.length > 3);
assert.ok((await stream.usage).outputTokens > 0);

const tools = {
  weather: tool({ description: "The weather in a city.", inputSchema: z.object({ city: z.enum(["Oslo", "Bergen"]) }) }),
};
const forced = { ...short, maxOutputTokens: 256, tools, toolChoice: "required", prompt: "Weather in Oslo?" };
const called = await generateText(forced);
assert.equal(called.toolCalls[0].toolName, "weather");
assert.equal(typeof called.toolCalls[0].input.city, "string");
const streamed = streamText(forced);
await streamed.consumeStream();
assert.equal((await streamed.toolCalls)[0].toolName, "weather");

const dog = await generateText({
  ...short,
  maxOutputTokens: 256,
  prompt: "Invent a dog.",
  output: Output.object({ schema: z.object({ name: z.string().max(20), good: z.boolean() }) }),
});
assert.equal(typeof dog.output.name, "string");

if (provider === "openai-compatible") {
  const found = await embedMany({ model: caravan.embeddingModel("ai/smollm2"), values: ["camel", "mule"] });
  assert.equal(found.embeddings.length, 2);
  assert.ok(found.embeddings[0].length > 100);
}
console.log("ok");
