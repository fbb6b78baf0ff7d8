// A client of Node's ssh2, for tests/scenario/test_ssh_clients.py; as tests/clients/go/main.go.
'use strict';

const fs = require('fs');
const path = require('path');
const { Client } = require('ssh2');

const [host, port, username, keyFile, hostKey, verb, ...arg] = process.argv.slice(2);
const known = Buffer.from(hostKey.split(' ')[1], 'base64');
const client = new Client();

function fail(error) {
	console.error(String(error && error.message ? error.message : error));
	process.exit(255);
}

function call(method, ...given) {
	return new Promise((resolve, reject) =>
		method(...given, (error, value) => (error ? reject(error) : resolve(value))));
}

function gather(stream) {
	return new Promise((resolve, reject) => {
		const parts = [];
		let code = 0;
		stream.on('data', (data) => parts.push(data));
		stream.on('exit', (status) => { code = status; });
		stream.on('error', reject);
		if (stream.stderr)
			stream.stderr.on('data', (data) => process.stderr.write(data));
		stream.on('close', () => resolve([Buffer.concat(parts), code]));
	});
}

async function run(command, options) {
	const stream = await call(client.exec.bind(client), command, options);
	const [out, code] = await gather(stream);
	process.stdout.write(out);
	return code;
}

async function tree(files, from, to) {
	await call(files.mkdir.bind(files), to).catch(() => {});
	for (const entry of fs.readdirSync(from, { withFileTypes: true })) {
		const [here, there] = [path.join(from, entry.name), path.posix.join(to, entry.name)];
		if (entry.isDirectory())
			await tree(files, here, there);
		else
			await call(files.fastPut.bind(files), here, there);
	}
}

async function forward(target) {
	const stream = await call(client.forwardOut.bind(client), '127.0.0.1', 0, '127.0.0.1', Number(target));
	const answer = gather(stream);
	stream.end('ping\n');
	process.stdout.write((await answer)[0]);
	return 0;
}

async function go() {
	if (verb === 'run')
		return run(arg[0], {});
	if (verb === 'pty')
		return run('stty size', { pty: { rows: Number(arg[0]), cols: Number(arg[1]), term: 'xterm' } });
	if (verb === 'forward')
		return forward(arg[0]);
	const files = await call(client.sftp.bind(client));
	if (verb === 'put')
		await call(files.fastPut.bind(files), arg[0], arg[1]);
	else if (verb === 'get')
		await call(files.fastGet.bind(files), arg[0], arg[1]);
	else if (verb === 'tree')
		await tree(files, arg[0], arg[1]);
	else
		throw new Error(`"${verb}" is no verb`);
	return 0;
}

client.on('error', fail);
client.on('ready', () => go().then((code) => { client.end(); process.exitCode = code; }, fail));
client.connect({
	host,
	port: Number(port),
	username,
	privateKey: fs.readFileSync(keyFile),
	hostVerifier: (key) => Buffer.compare(key, known) === 0,
});
