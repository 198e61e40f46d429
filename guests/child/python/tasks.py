"""Runs tasks in this process: components one after the other, the tasks of one together, each in a thread. A task ends once: with its output, its
error, or its time; what it does afterwards counts for nothing."""

import collections
import json
import queue
import threading
import time

from program import describe

# Characters of a task's log; what comes after them is left out.
LOG_LIMIT = 65_536
# Logs are sent on while a task runs, but not each line by itself.
LOG_EVERY_SECONDS = 0.2
# Bytes of a task's output or of a message, as JSON.
VALUE_LIMIT = 1_048_576
# How often the time of tasks is looked at.
TICK_MS = 250
# A task that waits for others needs little.
STACK_BYTES = 1 << 20


class TaskTimedOut(Exception):
    pass


def to_json(value, what):
    try:
        text = json.dumps(value, separators=(",", ":"), allow_nan=False, default=_plain)
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError("%s can't be written as JSON: %s" % (what, error)) from None
    # Every character is ASCII.
    if len(text) > VALUE_LIMIT:
        raise ValueError("%s is %d bytes as JSON, more than %d." % (what, len(text), VALUE_LIMIT))
    return text


def _no_program(value, context):
    raise RuntimeError("There is no program yet.")


def _plain(value):
    """Numbers and arrays of NumPy as what JSON has."""
    plain = getattr(value, "tolist", None)
    if plain is None:
        raise TypeError("%s is no value that JSON has" % type(value).__name__)
    return plain()


class Task:
    def __init__(self, given):
        self.index, self.attempt, self.input = given["index"], given["attempt"], given["input"]
        self.log, self.logged, self.log_sent_at = [], 0, 0.0
        self.began = self.deadline = None
        self.ended = self.timed_out = False
        self.opened = collections.Counter()
        self.letters = collections.deque()
        # Told of letters and barriers.
        self.changed = threading.Condition()


class Context:
    """What a task has of its surroundings."""

    def __init__(self, task, tasks):
        self._task, self._tasks = task, tasks
        self.index = task.index
        self.shared = tasks.shared

    def log(self, *values):
        self._tasks.log(self._task, " ".join(str(value) for value in values) + "\n")

    def barrier(self, name, size):
        """Waits until so many tasks have come to the barrier of that name."""
        if not isinstance(name, str) or not 1 <= len(name) <= 200:
            raise TypeError("A barrier's name is a text of 1 to 200 characters.")
        if not isinstance(size, int) or isinstance(size, bool) or size < 1:
            raise TypeError("A barrier's size is the number of tasks that meet there.")
        task = self._task
        self._tasks.port.send({"type": "BARRIER", "index": task.index, "name": name, "size": size})
        with task.changed:
            while task.opened[name] == 0:
                task.changed.wait()
            task.opened[name] -= 1

    def send(self, to, body):
        if not isinstance(to, int) or isinstance(to, bool) or to < 0:
            raise TypeError("A message is sent to the number of a task.")
        text = to_json(body, "The message")
        self._tasks.port.send('{"type":"SEND","from":%d,"to":%d,"body":%s}' % (self._task.index, to, text))

    def receive(self, sender=None):
        """The oldest message, or the oldest of that task: `{"from": …, "body": …}`."""
        task = self._task
        with task.changed:
            while True:
                for letter in task.letters:
                    if sender is None or letter["from"] == sender:
                        task.letters.remove(letter)
                        return letter
                task.changed.wait()


class Tasks:
    def __init__(self, port):
        self.port = port
        self.shared = {}
        self._program = None
        self._timeout_ms = 0
        self._components = queue.SimpleQueue()
        # By index: those that wait or run.
        self._tasks = {}
        self._running = {}
        self._here = threading.local()
        self._lock = threading.Lock()
        threading.stack_size(STACK_BYTES)
        self._worker = None
        # What the worker is at.
        self._component = []
        self._start_worker()

    def set_program(self, program, shared, timeout_ms):
        self._program, self.shared, self._timeout_ms = program, dict(shared), timeout_ms

    def rehearse(self, program, times):
        """Runs a program as its tasks would be run, with nobody told."""
        self.set_program(program, {}, 1000)
        self.port.mute(True)
        for index in range(times):
            self.add([{"index": index, "attempt": 1, "input": "text", "interactsWith": []}])
        while self._tasks or self._component:
            time.sleep(0.001)
        self.port.mute(False)
        self.set_program(_no_program, {}, 1000)

    def add(self, given):
        component = [Task(one) for one in given]
        with self._lock:
            for task in component:
                self._tasks[task.index] = task
        self._components.put(component)

    def deliver(self, message):
        task = self._tasks.get(message["to"])
        if task is not None:
            with task.changed:
                task.letters.append({"from": message["from"], "body": message["body"]})
                task.changed.notify()

    def open_barrier(self, message):
        for index in message["tasks"]:
            task = self._tasks.get(index)
            if task is not None:
                with task.changed:
                    task.opened[message["name"]] += 1
                    task.changed.notify()

    def print(self, text):
        """What a program prints belongs to the task of its thread, or to the only one that runs."""
        task = getattr(self._here, "task", None)
        if task is None and len(self._running) == 1:
            task = next(iter(self._running.values()), None)
        if task is not None:
            self.log(task, text)

    def log(self, task, text):
        if task.logged > LOG_LIMIT or task.ended:
            return
        rest = LOG_LIMIT - task.logged
        task.logged += len(text)
        task.log.append(text if len(text) <= rest else text[:rest] + "…")
        if time.monotonic() - task.log_sent_at >= LOG_EVERY_SECONDS:
            self._send_log(task)
            self.port.flush()

    def end_late(self):
        """Ends those whose time is over, and says after how many milliseconds to look again. A thread can't be stopped: where one goes on beyond its
        task's time, another takes what waits."""
        now = time.monotonic()
        for task in list(self._running.values()):
            if task.deadline < now:
                task.timed_out = True
                self._end(task, error=TaskTimedOut("The task took longer than %d ms." % self._timeout_ms))
        component = self._component
        if any(task.timed_out for task in component) and all(task.ended for task in component):
            self._start_worker()
        return TICK_MS if self._tasks or component else None

    def _send_log(self, task):
        if task.log:
            lines, task.log = task.log, []
            task.log_sent_at = time.monotonic()
            self.port.post({"type": "LOG", "index": task.index, "text": "".join(lines)})

    def _start_worker(self):
        self._component = []
        self._worker = threading.Thread(target=self._work, daemon=True)
        self._worker.start()

    def _work(self):
        me = threading.current_thread()
        while self._worker is me:
            if self._components.empty():
                self.port.flush()
            component = self._components.get()
            self._component = component
            now = time.monotonic()
            for task in component:
                task.began = task.log_sent_at = now
                task.deadline = now + self._timeout_ms / 1000
                self._running[task.index] = task
            self.port.post('{"type":"STARTED","indices":[%s]}' % ",".join(str(task.index) for task in component))
            # Before anything runs: the host has to know what a child was at when it died.
            self.port.flush()
            others = [threading.Thread(target=self._run, args=(task,), daemon=True) for task in component[1:]]
            for thread in others:
                thread.start()
            self._run(component[0])
            for thread in others:
                thread.join()
            if self._worker is me:
                self._component = []

    def _run(self, task):
        self._here.task = task
        text = None
        error = None
        try:
            text = to_json(self._program(task.input, Context(task, self)), "The output")
        except BaseException as raised:
            error = raised
        self._here.task = None
        self._end(task, text, error)
        if len(self._running) > 0:
            # Others may wait for long.
            self.port.flush()

    def _end(self, task, text=None, error=None):
        with self._lock:
            if task.ended:
                return
            task.ended = True
            if self._tasks.get(task.index) is task:
                del self._tasks[task.index]
            if self._running.get(task.index) is task:
                del self._running[task.index]
        self._send_log(task)
        if error is None:
            took = (time.monotonic() - task.began) * 1000
            self.port.post('{"type":"RESULT","index":%d,"attempt":%d,"output":%s,"durationMs":%.3f}' % (task.index, task.attempt, text, took))
            return
        timed_out = isinstance(error, TaskTimedOut)
        message = str(error) if timed_out else describe(error, "program")
        self.port.post({"type": "TASK_FAILED", "index": task.index, "attempt": task.attempt, "message": message, "timedOut": timed_out})
        if timed_out:
            self.port.flush()
