// A reporter for node:test that prints a line "name: reason" for each test that was skipped.

export default async function* skipped(events) {
    for await (const { type, data } of events) {
        if (type === 'test:pass' && data.skip !== undefined) {
            const reason = data.skip === true ? 'no reason given' : data.skip;
            yield `${data.name}: ${reason}\n`;
        }
    }
}
