"""Installs packages beside those that this image has, and hands out what was installed: tree/ has what belongs into the
folder of packages, beside/ what belongs below the prefix that this folder is of (bin/mlflow, share/…).

It runs in the image that is to have them, so that its Python decides what fits. /build/in has request.json, pip as a
wheel, and certificates; a large file comes in parts, NAME.000 and so on. Nothing of what is installed runs here: only
wheels are taken. An environment with the system's packages lets pip see what is there: it keeps what fits, and puts
what does not beside it, where it comes first.
"""
import glob
import http.server
import importlib.metadata
import json
import os
import re
import site
import subprocess
import sys
import tarfile
import venv

INPUT, WORK, PORT = "/build/in", "/build/work", 5001


def read(name):
    content = b""
    for part in sorted(glob.glob(f"{INPUT}/{name}.[0-9][0-9][0-9]")) or [f"{INPUT}/{name}"]:
        if os.path.exists(part):
            with open(part, "rb") as f:
                content += f.read()
    return content


def write(name, content):
    with open(f"{WORK}/{name}", "wb") as f:
        f.write(content)
    return f"{WORK}/{name}"


def site_folder():
    """Where this Python looks before its own packages, and whether nothing is there."""
    first = site.getsitepackages()[0]
    return first, not (os.path.isdir(first) and os.listdir(first))


def install(request):
    """Runs pip, and gives the folder that it filled."""
    venv.EnvBuilder(system_site_packages=True, with_pip=False).create(f"{WORK}/venv")
    pip = write(request["pip"], read(request["pip"]))
    command = [
        f"{WORK}/venv/bin/python", f"{pip}/pip", "install", "--isolated", "--no-input", "--disable-pip-version-check", "--only-binary", ":all:",
        "--no-cache-dir", "--no-compile", "--no-warn-script-location", "--progress-bar", "off", "--retries", "1", "--timeout", "15",
        "--index-url", request["index"], "--cert", write("trust.pem", read("trust.pem") + b"\n" + read("index.pem")),
        "--constraint", write("constraints.txt", "\n".join(request["constraints"]).encode()), "--", *request["requirements"],
    ]
    env = {"HOME": WORK, "TMPDIR": WORK, "PATH": os.environ.get("PATH", "/usr/bin:/bin"), "LANG": "C.UTF-8", "PYTHONHASHSEED": "0", "SOURCE_DATE_EPOCH": "0"}
    done = subprocess.run(command, env=env, check=False)
    if done.returncode:
        sys.exit(done.returncode)
    folder = next(p for p, _, _ in os.walk(f"{WORK}/venv/lib") if os.path.basename(p) == "site-packages")
    leave_out(folder, request["leave"])
    subprocess.run([sys.executable, "-m", "compileall", "-q", "--invalidation-mode", "unchecked-hash", "-s", folder, "-p", request["site"], folder],
                   env=env, check=False)  # some packages have files for other Pythons
    return folder


def normal(name):
    return re.sub(r"[-_.]+", "-", name).lower()


def packages_in(folder):
    """The packages of a folder; what is left of one that was taken away has no name."""
    return [d for d in importlib.metadata.distributions(path=[folder]) if d.metadata["Name"]]


def leave_out(folder, names):
    """Takes packages away again that others ask for, and for which the image has something else."""
    for d in packages_in(folder):
        if normal(d.metadata["Name"]) not in names:
            continue
        print(f"{d.metadata['Name']} {d.version} is left out: the image has its own.", flush=True)
        for path in {os.path.normpath(os.path.join(folder, f)) for f in d.files or []}:
            if path.startswith(folder + os.sep) and os.path.isfile(path):
                os.remove(path)


def beside(folder):
    """What packages have outside of their folder (RECORD), by its name below the prefix. Nothing takes Python's place."""
    root, found = f"{WORK}/venv", {}
    for d in packages_in(folder):
        for file in d.files or []:
            path = os.path.normpath(os.path.join(folder, file))
            name = os.path.relpath(path, root)
            if not path.startswith(root + os.sep) or path.startswith(folder + os.sep) or not os.path.isfile(path) or os.path.islink(path):
                continue
            if re.fullmatch(r"bin/python[0-9.]*", name):
                print(f"{name} of {d.metadata['Name']} is left out: the image has its own.", flush=True)
                continue
            found[name] = path
    return found


def for_this_python(path):
    """A command of the environment's Python becomes one of the image's."""
    with open(path, "rb") as f:
        first, rest = f.readline(1000), f.read()
    changed = re.sub(rb"^#!" + re.escape(f"{WORK}/venv/bin/".encode()) + rb"python[0-9.]*", b"#!" + sys.executable.encode(), first)
    if changed != first:
        with open(path, "wb") as f:
            f.write(changed + rest)


def pack(folder, others, report, out):
    """Writes the report and the files, in an order that they give."""
    with tarfile.open(out, "w", format=tarfile.PAX_FORMAT) as tar:
        def add(name, path):
            info = tarfile.TarInfo(name)
            info.size = os.stat(path).st_size
            info.mode = 0o755 if os.access(path, os.X_OK) or name.startswith("beside/bin/") else 0o644
            with open(path, "rb") as f:
                tar.addfile(info, f)
        add("report.json", write("report.json", json.dumps(report, sort_keys=True).encode()))
        for path, folders, files in os.walk(folder):
            folders.sort()
            for name in sorted(files):
                whole = os.path.join(path, name)
                add("tree/" + os.path.relpath(whole, folder), whole)
        for name in sorted(others):
            add("beside/" + name, others[name])


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        with open(f"{WORK}/tree.tar", "rb") as f:
            self.send_response(200)
            self.send_header("Content-Length", str(os.fstat(f.fileno()).st_size))
            self.end_headers()
            while block := f.read(1 << 20):
                self.wfile.write(block)

    def log_message(self, *_):
        pass


def main():
    request = json.loads(read("request.json"))
    first, empty = site_folder()
    if empty:
        request["site"] = first
    folder = install(request)
    packages = {normal(d.metadata["Name"]): d.version for d in packages_in(folder)}
    others = beside(folder)
    for path in others.values():
        for_this_python(path)
    pack(folder, others, {"site": request["site"], "packages": packages}, f"{WORK}/tree.tar")
    commands = [os.path.basename(n) for n in sorted(others) if n.startswith("bin/")]
    if commands:
        print(f"Commands: {', '.join(commands)}", flush=True)
    print(f"Installed {len(packages)} packages.", flush=True)
    http.server.ThreadingHTTPServer(("", PORT), Handler).serve_forever()


main()
