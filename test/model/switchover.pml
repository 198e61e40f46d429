/*
 * The switchover protocol of docs/protocol.md as a Promela model. switchover.test.ts runs it: as it is, and once for each mutant, whose definition swaps one pair.
 *
 * One VM, one migration, at most two tries to switch over: both in one attempt (the first was voided), or the second in an attempt of its own (the first ended
 * undone, and is retried). Faults of all kinds come out of one budget and strike between any two steps; `environment` lists them.
 *
 * What s... names is the source's site, d... the destination's, db... the control plane's database. What is there per attempt are the records at the destination.
 */
#ifndef FAULTS
#define FAULTS 2
#endif
#ifndef WRITES
#define WRITES 2
#endif

/* ---- The phases, in their order. A mutant gives two of them each other's places. ---- */
#define INSTANTIATE 0
#define SYNC 1
#if defined(MUTANT_REMAINDER_BEFORE_FREEZE)
#define ARM 2
#define REMAINDER 3
#define FREEZE 4
#elif defined(SWAP_ARM_AND_FREEZE)
#define FREEZE 2
#define ARM 3
#define REMAINDER 4
#elif defined(MUTANT_SUSPEND_BEFORE_ARM)
#define FREEZE 2
#define REMAINDER 3
#define ROOTS 4
#define SUSPEND 5
#define ARM 6
#else
#define ARM 2
#define FREEZE 3
#define REMAINDER 4
#endif

#if defined(MUTANT_SUSPEND_BEFORE_ARM)
#define SEAL 7
#define BOOT 8
#elif defined(SWAP_SUSPEND_AND_SEAL)
#define ROOTS 5
#define SEAL 6
#define SUSPEND 7
#define BOOT 8
#elif defined(MUTANT_BOOT_BEFORE_SEAL)
#define ROOTS 5
#define SUSPEND 6
#define BOOT 7
#define SEAL 8
#elif defined(MUTANT_COMMIT_BEFORE_ROOTS)
#define SUSPEND 5
#define SEAL 6
#define BOOT 7
#define HEALTH 8
#define FENCE 9
#define COMMIT 10
#define ROOTS 11
#define EXPOSE 12
#else
#define ROOTS 5
#define SUSPEND 6
#define SEAL 7
#define BOOT 8
#endif

#if defined(MUTANT_COMMIT_BEFORE_ROOTS)
#elif defined(MUTANT_COMMIT_BEFORE_HEALTH)
#define FENCE 9
#define COMMIT 10
#define HEALTH 11
#define EXPOSE 12
#elif defined(MUTANT_EXPOSE_BEFORE_HEALTH)
#define EXPOSE 9
#define HEALTH 10
#define FENCE 11
#define COMMIT 12
#elif defined(MUTANT_COMMIT_BEFORE_FENCE)
#define HEALTH 9
#define COMMIT 10
#define FENCE 11
#define EXPOSE 12
#elif defined(MUTANT_EXPOSE_BEFORE_COMMIT)
#define HEALTH 9
#define FENCE 10
#define EXPOSE 11
#define COMMIT 12
#else
#define HEALTH 9
#define FENCE 10
#define COMMIT 11
#define EXPOSE 12
#endif
#define RETIRE 13
#define END 14

#if defined(MUTANT_LEASE_CHECK_BEFORE_FENCE) || defined(MUTANT_COMMIT_BEFORE_FENCE)
#define CLOSES_LATE /* only in the phase FENCE, which otherwise has nothing left to do */
#endif

/* ---- Power of either machine ---- */
#define NONE 0
#define OFF 1
#define SUSPENDED 2
#define RUNNING 3
#define LANDING 4

/* ---- Calls, and bits of `over` ---- */
#define S_ARM 1
#define S_SUSPEND 2
#define S_FENCE 3
#define S_RELEASE 4
#define S_RESUME 5
#define S_START 6
#define S_STOP 7
#define D_STARTED 8
#define D_CREATE 9
#define D_SEAL 10
#define D_BOOT 11
#define D_COMMIT 12
#define D_ABANDON 13
#define D_EXPOSE 14
#define D_START 15
#define D_COMPLETED 16
#define D_STOP 17
#define D_FENCE 18
#define D_ROLLED_BACK 19
#define BIT(call) (1 << (call))

#define COMMITTED 1
#define ABANDONED 2
#define CORRUPT 15

/* ---- The source's site. `sFence` is an attempt's number: that is what a fence's id tells apart. `sClosed`: fenced, not only armed. ---- */
byte sVm = RUNNING;
bool sUp = true;
bool sReached = true;
byte sFence = 0;
bool sClosed = false;
byte sFrozen = 0;   /* the try whose freeze holds */
bool sAgent = false; /* the agent that froze it answers */
byte sData = 0;     /* the newest acknowledged write on its disk */
byte sRead = 0;     /* what the source's hash tree was made of */

/* ---- The destination's site ---- */
byte dVm = NONE;
bool dUp = true;
bool dOpen = false;    /* exposed */
bool dSealed = false;
bool dFence = false;
bool dGood = true;     /* the copied system comes up in its new place */
bool dTouched = false; /* a trial boot wrote to the copied disk itself */
byte dData = 0;
bool started[3];
byte outcome[3];
bool completed[3];
bool rolledBack[3];

/* ---- The control plane's database ---- */
bool dbGone = false;
byte dbPhase = INSTANTIATE;
bool dbEntered = false;
byte dbTry = 1;
byte dbAttempt = 1;
byte attemptOfTry2 = 1;
#define FORWARD 0
#define BACK_TO_SYNC 1
#define BACK_TO_START 2
#define ROLL_BACK 3
#define ENDED_MOVED 4
#define ENDED_UNDONE 5
#define ENDED_ROLLED_BACK 6
byte dbGoes = FORWARD;
byte dbStep = 0; /* of a rollback */
bool wishes = true; /* the operator may still ask for something */

/* ---- Everybody else ---- */
byte acked = 0; /* the newest write that anybody was told is safe */
byte faults = FAULTS;
byte late = 0;  /* a call that is still under way though it was given up, or a duplicate of one */
byte lateTry = 0;
int over[5];    /* per try: the calls that their site will never apply (again): their operation id was seen, or superseded */
bool crashed = false;

/* 3 and 4 are what a reconciliation does to the attempts 1 and 2: it doesn't know of tries. */
#define ATTEMPT_OF(t) (((t) == 2) -> attemptOfTry2 : (((t) == 4) -> 2 : 1))
#define RECONCILIATION(attempt) ((attempt) + 2)
#define S_LIVE (sUp && sVm == RUNNING)
#define D_LIVE (dUp && dVm == RUNNING && dOpen)
#define MOVED_BY(a) ((outcome[a] == COMMITTED || completed[a]) && !rolledBack[a])
#define MIGRATED (MOVED_BY(1) || MOVED_BY(2))

/* ---- The invariants, checked after every step that could break them ---- */
bool atMostOneLive = true;
bool noAcknowledgedRecordLost = true;
bool oneIsRecoverable = true;
bool recordsTellTheLiveCopy = true;
bool keptCopyIsAsVerified = true;
bool recordsNameWhatIsThere = true;
bool oneServesInTheEnd = true;

inline check() {
    atMostOneLive = !(S_LIVE && D_LIVE);
    noAcknowledgedRecordLost = (!S_LIVE || sData == acked) && (!D_LIVE || dData == acked);
    oneIsRecoverable = (MIGRATED -> dGood && dData == acked : sData == acked);
    recordsTellTheLiveCopy = (!D_LIVE || MIGRATED) && (!S_LIVE || !MIGRATED);
    keptCopyIsAsVerified = !dTouched || MIGRATED || rolledBack[1] || rolledBack[2];
    recordsNameWhatIsThere = dVm == NONE || started[1] || started[2];
    assert(atMostOneLive);
    assert(noAcknowledgedRecordLost);
    assert(oneIsRecoverable);
    assert(recordsTellTheLiveCopy);
    assert(keptCopyIsAsVerified);
    assert(recordsNameWhatIsThere)
}

/* ---- What the sites do when a call arrives. `done` is false where they refuse it. ---- */
bool done;

/* What undoes something names what it undoes, and that is never applied from then on. A reconciliation names the whole attempt. */
inline supersede(t, calls) {
  if
  :: t <= 2 -> over[t] = over[t] | calls
  :: else ->
    if
    :: ATTEMPT_OF(t) == 1 -> over[1] = over[1] | calls
    :: else
    fi;
    if
    :: ATTEMPT_OF(t) == attemptOfTry2 -> over[2] = over[2] | calls
    :: else
    fi
  fi
}

inline atSource(call, t) {
  done = true;
  if
  :: call == S_ARM ->
    if
    :: sFence == 0 || sFence == ATTEMPT_OF(t) -> sFence = ATTEMPT_OF(t)
    :: else -> done = false
    fi
  :: call == S_SUSPEND ->
    if
    :: sVm == RUNNING -> sVm = SUSPENDED
    :: sVm == SUSPENDED
    :: else -> done = false
    fi
  :: call == S_FENCE ->
    if
    :: sFence == 0 || sFence == ATTEMPT_OF(t) ->
      sFence = ATTEMPT_OF(t); sClosed = true;
      if
      :: sVm == RUNNING -> sVm = OFF; sFrozen = 0; sAgent = false
      :: else
      fi
    :: else -> done = false
    fi
  :: call == S_RELEASE ->
    if
    :: sFence == ATTEMPT_OF(t) -> sFence = 0; sClosed = false
    :: else
    fi;
#ifndef MUTANT_NOT_SUPERSEDED
    supersede(t, BIT(S_ARM) | BIT(S_FENCE) | BIT(S_STOP))
#endif
  :: call == S_RESUME ->
    if
    :: sVm == SUSPENDED && !sClosed -> sVm = RUNNING
    :: sVm == SUSPENDED && sClosed -> done = false
    :: else
    fi;
#ifndef MUTANT_NOT_SUPERSEDED
    supersede(t, BIT(S_SUSPEND))
#endif
  :: call == S_START ->
    if
    :: sFence != 0 -> done = false
    :: sFence == 0 && sVm == OFF -> sVm = RUNNING
    :: else
    fi
  :: call == S_STOP -> sVm = OFF; sFrozen = 0; sAgent = false
  fi;
  if
  :: done -> over[t] = over[t] | BIT(call)
  :: else
  fi
}

inline atDestination(call, t) {
  done = true;
  if
  :: call == D_STARTED -> started[ATTEMPT_OF(t)] = true
  :: call == D_CREATE -> dVm = LANDING; dOpen = false; dSealed = false /* new, or the kept one, taken up without its overlay */
  :: call == D_SEAL ->
    if
    :: dVm == LANDING || dVm == RUNNING -> dSealed = true
    :: else -> done = false
    fi
  :: call == D_BOOT ->
    if
    :: dVm == LANDING ->
#ifdef MUTANT_BOOT_BEFORE_SEAL
      dVm = RUNNING; dTouched = dTouched || !dSealed
#else
      if
      :: dSealed -> dVm = RUNNING
      :: else -> done = false
      fi
#endif
    :: dVm == RUNNING
    :: else -> done = false
    fi
  :: call == D_COMMIT ->
    if
    :: outcome[ATTEMPT_OF(t)] == 0 -> outcome[ATTEMPT_OF(t)] = COMMITTED
    :: outcome[ATTEMPT_OF(t)] == COMMITTED
    :: else -> done = false
    fi
  :: call == D_ABANDON ->
    if
    :: outcome[ATTEMPT_OF(t)] == 0 -> outcome[ATTEMPT_OF(t)] = ABANDONED
    :: outcome[ATTEMPT_OF(t)] == ABANDONED
    :: else -> done = false
    fi
  :: call == D_EXPOSE ->
    if
#if defined(MUTANT_EXPOSE_BEFORE_COMMIT) || defined(MUTANT_EXPOSE_BEFORE_HEALTH)
    :: true -> dOpen = true
#else
    :: outcome[ATTEMPT_OF(t)] == COMMITTED -> dOpen = true
    :: else -> done = false
#endif
    fi
  :: call == D_START ->
    if
    :: dFence -> done = false
    :: !dFence && dVm == OFF -> dVm = RUNNING
    :: else
    fi
  :: call == D_COMPLETED -> completed[ATTEMPT_OF(t)] = true
  :: call == D_STOP ->
    if
    :: dVm != NONE -> dVm = OFF
    :: else
    fi;
    supersede(t, BIT(D_CREATE) | BIT(D_SEAL) | BIT(D_BOOT))
  :: call == D_FENCE ->
    dFence = true;
    if
    :: dVm != NONE -> dVm = OFF
    :: else
    fi
  :: call == D_ROLLED_BACK ->
    /* The operator accepts the loss of what the destination acknowledged: he was told what. */
    if
    :: !rolledBack[ATTEMPT_OF(t)] -> rolledBack[ATTEMPT_OF(t)] = true; acked = sData
    :: else
    fi
  fi;
  if
  :: done && (call < D_COMMIT || call == D_EXPOSE || call > D_COMPLETED) -> over[t] = over[t] | BIT(call)
  :: else
  fi
}

/* ---- Calls of the control plane ---- */
#define WAITING 0
#define OK 1
#define REFUSED 2
#define NO_ANSWER 3
byte answer = WAITING;
byte request = 0;
byte requestTry = 0;

#define UP(call) (((call) < D_STARTED) -> (sUp && sReached) : dUp)

/* Once. */
inline try(call, t) {
  atomic { request = call; requestTry = t; answer = WAITING };
  answer != WAITING
}

/* Again until it is answered. Who is refused asks no more: what that leaves standing, oneServesInTheEnd finds. */
inline must(call, t) {
  answer = NO_ANSWER;
  do
  :: answer == OK -> break
  :: answer == NO_ANSWER && UP(call) -> try(call, t)
  od
}

/* Answered, refused, applied without an answer, applied and duplicated, lost for now or for good; and what is late arrives, or never does. */
active proctype network() {
  byte call, t;
  bool answers;
  do
  :: atomic {
      if
      :: request != 0 && UP(request) ->
        call = request; t = requestTry; request = 0;
        if
        :: answers = true
        :: faults > 0 -> faults--; answers = false
        :: faults > 0 && late == 0 -> faults--; answers = true; late = call; lateTry = t
        fi
      :: request != 0 && faults > 0 && late == 0 ->
        faults--; late = request; lateTry = requestTry; request = 0; answer = NO_ANSWER; call = 0
      :: request != 0 && !UP(request) -> request = 0; answer = NO_ANSWER; call = 0
      :: late != 0 && (late < D_STARTED -> sUp : dUp) ->
        answers = false; call = late; t = lateTry; late = 0; lateTry = 0;
        if
        :: over[t] & BIT(call) -> call = 0
        :: else
        fi;
        goto deliver
      :: late != 0 -> late = 0; lateTry = 0; call = 0
      fi;
      if
      :: call != 0 && answers -> answer = OK
      :: call != 0 && !answers -> answer = NO_ANSWER
      :: else
      fi;
deliver:
      if
      :: call == 0
      :: call != 0 && call < D_STARTED -> atSource(call, t)
      :: call >= D_STARTED -> atDestination(call, t)
      fi;
      if
      :: call != 0 && answers && !done -> answer = REFUSED
      :: else
      fi;
      call = 0; t = 0; answers = false; done = false;
      check()
    }
  od
}

/* ---- The control plane: one phase after the other, forward or back, as src/workflows/phase-runner.ts does it ---- */
#define DONE 0
#define VOID 1
#define FAIL 2
byte result = DONE;
bool repeated = false;
/* In memory: the try whose freeze the control plane vouches for, by what the agent has answered and by its own clocks. What holds in the guest it can't see. */
byte leaseOf = 0;
/* From the agent's answer that it is still frozen until the suspension was answered. */
bool suspending = false;

/* Before the commit what isn't answered with OK ends the try: at once, or after the site could be reached again. */
inline step(call) {
  result = DONE;
  try(call, dbTry);
  if
  :: answer == OK
  :: answer != OK -> result = FAIL
  fi
}

#define AGENT_ANSWERS (sAgent && S_LIVE && sReached)

inline underLease() {
  if
  :: leaseOf != dbTry -> result = VOID
  :: else -> result = DONE
  fi
}

inline copyData() {
  atomic {
    if
    :: dVm == LANDING && S_LIVE && sReached && dUp ->
      sRead = sData;
      if
      :: dData = sData
      :: faults > 0 -> faults--; dData = CORRUPT
      fi
    :: else -> result = FAIL
    fi
  }
}

inline doPhase() {
  if
  :: dbPhase == INSTANTIATE ->
#ifdef MUTANT_INSTANTIATE_BEFORE_STARTED
    step(D_CREATE);
    if
    :: result == DONE -> step(D_STARTED)
    :: else
    fi
#else
    step(D_STARTED);
    if
    :: result == DONE -> step(D_CREATE)
    :: else
    fi
#endif
  :: dbPhase == SYNC -> result = DONE; copyData()
  :: dbPhase == ARM -> step(S_ARM)
  :: dbPhase == FREEZE ->
    if
    :: repeated -> result = VOID
    :: !repeated ->
      atomic {
        if
        :: S_LIVE && sReached -> sFrozen = dbTry; sAgent = true; leaseOf = dbTry; result = DONE
        :: S_LIVE && sReached && faults > 0 -> faults--; sFrozen = dbTry; result = VOID
        :: !(S_LIVE && sReached) -> result = VOID
        fi
      }
    fi
  :: dbPhase == REMAINDER ->
#ifdef MUTANT_REMAINDER_BEFORE_FREEZE
    result = DONE; copyData()
#else
    atomic {
      underLease();
      if
      :: result == DONE && AGENT_ANSWERS -> copyData()
      :: else -> result = VOID
      fi;
      if
      :: result == FAIL -> result = VOID
      :: else
      fi
    }
#endif
  :: dbPhase == ROOTS ->
    atomic {
      result = DONE;
#ifndef MUTANT_COMMIT_BEFORE_ROOTS
      underLease();
      if
      :: result == DONE && !AGENT_ANSWERS -> result = VOID
      :: else
      fi;
#endif
      if
      :: result == DONE && dData != sRead -> result = VOID
      :: else
      fi
    }
  :: dbPhase == SUSPEND ->
    atomic {
      underLease();
#ifndef MUTANT_SUSPEND_BEFORE_RENEWAL
      if
      :: result == DONE && !(AGENT_ANSWERS && sFrozen == dbTry) -> result = VOID
      :: else
      fi;
#endif
      suspending = (result == DONE)
    };
    if
    :: result == DONE ->
#ifdef MUTANT_LEASE_CHECK_BEFORE_SUSPEND
      try(S_SUSPEND, dbTry);
      if
      :: answer == OK
      :: answer != OK -> result = VOID
      fi
#else
      try(S_SUSPEND, dbTry);
#ifndef CLOSES_LATE
      if
      :: answer == OK -> try(S_FENCE, dbTry)
      :: else
      fi;
      if
      :: answer == OK && sVm != SUSPENDED -> answer = NO_ANSWER
      :: else
      fi;
#endif
      /* What the check reads is what the lease stands for: the freeze held until the suspension, and it can't lapse in a machine that stands still. */
      if
      :: answer == OK -> underLease()
      :: answer != OK -> result = VOID
      fi
#endif
    :: else
    fi;
    atomic { leaseOf = 0; suspending = false }
  :: dbPhase == SEAL -> step(D_SEAL)
  :: dbPhase == BOOT ->
    atomic {
      if
      :: dGood = true
      :: dGood = false
      fi
    };
    step(D_BOOT)
  :: dbPhase == HEALTH ->
    atomic {
      if
      :: dUp && dVm == RUNNING && dGood -> result = DONE
      :: else -> result = FAIL
      fi
    }
  :: dbPhase == FENCE ->
#ifndef CLOSES_LATE
    result = DONE /* it is closed since the suspension; here it is only confirmed */
#else
    if
    /* Armed, and suspended under a freeze that held: it can't come back by itself. */
    :: !(sUp && sReached) -> result = DONE
    :: step(S_FENCE);
      if
      :: answer == NO_ANSWER -> result = DONE
      :: true
      fi
    fi
#endif
  :: dbPhase == COMMIT -> step(D_COMMIT)
  fi
}

inline forwardOnly() {
  if
  :: dbPhase == EXPOSE ->
#ifdef MUTANT_COMPLETED_BEFORE_EXPOSE
    must(D_COMPLETED, dbTry);
    must(D_EXPOSE, dbTry);
    must(D_START, dbTry)
#elif defined(MUTANT_START_BEFORE_EXPOSE)
    must(D_START, dbTry);
    must(D_EXPOSE, dbTry);
    must(D_COMPLETED, dbTry)
#else
    must(D_EXPOSE, dbTry);
    must(D_START, dbTry);
    must(D_COMPLETED, dbTry)
#endif
  :: dbPhase == RETIRE ->
    must(S_FENCE, dbTry);
    must(S_STOP, dbTry)
  fi
}

/* Asked to hold the contrary: what it holds decides. */
inline abandon(t) {
  answer = NO_ANSWER;
  do
  :: answer == OK || answer == REFUSED -> break
  :: answer == NO_ANSWER && dUp -> try(D_ABANDON, t)
  od
}

inline undoPhase() {
  result = DONE;
  if
  :: dbPhase == INSTANTIATE && dbGoes == BACK_TO_START ->
    abandon(dbTry);
    must(D_STOP, dbTry)
  :: dbPhase == ARM ->
    must(S_RELEASE, dbTry);
    (sUp && sReached);
    if
    :: sVm == OFF -> must(S_START, dbTry)
    :: else
    fi;
#ifdef MUTANT_RELEASE_BEFORE_ABANDONED
    if
    :: dbGoes == BACK_TO_START ->
      abandon(dbTry);
      if
      :: answer == REFUSED -> result = FAIL
      :: else
      fi
    :: else
    fi
#endif
  :: dbPhase == FREEZE ->
    leaseOf = 0;
    atomic {
      if
      :: S_LIVE && sReached -> sFrozen = 0; sAgent = false; check()
      :: else /* its watchdog thaws it */
      fi
    }
  :: dbPhase == SUSPEND ->
#ifndef CLOSES_LATE
    must(S_RELEASE, dbTry);
#endif
    must(S_RESUME, dbTry)
  :: dbPhase == FENCE -> must(S_RELEASE, dbTry)
#ifndef MUTANT_RELEASE_BEFORE_ABANDONED
  :: dbPhase == COMMIT ->
    abandon(dbTry);
    if
    :: answer == REFUSED -> result = FAIL
    :: else
    fi
#endif
  :: else
  fi
}

#define BEFORE_COMMIT(phase) ((phase) <= COMMIT || (phase) < EXPOSE)

inline goForward() {
  if
  :: dbPhase == END -> dbGoes = ENDED_MOVED
  :: dbPhase == EXPOSE || dbPhase == RETIRE ->
    forwardOnly();
    atomic { dbPhase++; dbEntered = false }
  :: else ->
    atomic { repeated = dbEntered; dbEntered = true };
    if
    :: doPhase()
    :: atomic { faults > 0 -> faults--; result = FAIL } /* its time-out, or the operator's cancel */
    fi;
    atomic {
      if
      :: result == DONE -> dbPhase++; dbEntered = false
      :: result == VOID && dbTry == 1 -> dbGoes = BACK_TO_SYNC
      :: result == FAIL || (result == VOID && dbTry == 2) -> dbGoes = BACK_TO_START
      fi;
      result = DONE; repeated = false
    }
  fi
}

inline goBack() {
  undoPhase();
  atomic {
    if
    :: result == FAIL -> dbGoes = FORWARD; dbPhase = COMMIT + 1; dbEntered = false /* it turned out to be committed */
    :: else ->
      if
      :: dbGoes == BACK_TO_SYNC && dbPhase == SYNC -> dbGoes = FORWARD; dbTry = 2; attemptOfTry2 = dbAttempt; dbEntered = false
      :: dbPhase == INSTANTIATE -> dbGoes = ENDED_UNDONE; dbEntered = false
      :: else -> dbPhase--
      fi
    fi;
    result = DONE
  }
}

/* Only with the destination off for good does its record say that the source is the one, and only then may the source be. */
inline rollBack() {
  if
  :: dbStep == 0 ->
#ifdef MUTANT_ROLLED_BACK_BEFORE_FENCE
    must(D_ROLLED_BACK, dbTry)
#else
    must(D_FENCE, dbTry)
#endif
  :: dbStep == 1 ->
#if defined(MUTANT_ROLLED_BACK_BEFORE_FENCE)
    must(D_FENCE, dbTry)
#elif defined(MUTANT_RELEASE_BEFORE_ROLLED_BACK)
    must(S_RELEASE, dbTry);
    must(S_START, dbTry)
#else
    must(D_ROLLED_BACK, dbTry)
#endif
  :: dbStep == 2 ->
#ifdef MUTANT_RELEASE_BEFORE_ROLLED_BACK
    must(D_ROLLED_BACK, dbTry)
#else
    must(S_RELEASE, dbTry);
    must(S_START, dbTry)
#endif
  fi;
  atomic {
    dbStep++;
    if
    :: dbStep == 3 -> dbGoes = ENDED_ROLLED_BACK
    :: else
    fi
  }
}

/* ---- Without a database: from the destination's records alone, again after every crash ---- */
byte newest = 0;
bool settled = false;

byte power = NONE; /* what it saw when it looked */
bool ours = false; /* the source's fence, when it looked */
bool owed = false; /* in its own table: it has seen our trace on the source, and owes it its start */

/*
 * Looks, does what that calls for, and looks again, as onSource of src/domain/verdict-actions.ts has it. A source that is off without a trace of ours was switched off by its
 * owner, for all that anybody can know. What a dead control plane had asked for has arrived before the look, or never does.
 */
inline letSourceServe() {
  do
  :: atomic {
      sUp && sReached && (late == 0 || late >= D_STARTED) ->
      ours = (sFence == newest);
      power = (sFence == 0 || ours -> sVm : NONE);
      if
      :: power == RUNNING && ours
      :: power == SUSPENDED && (ours || owed || !rolledBack[newest]) -> owed = true
      :: power == OFF && (ours || owed) -> owed = true
      :: else -> break
      fi
    };
    if
    :: ours -> must(S_RELEASE, RECONCILIATION(newest))
    :: else
    fi;
    if
    :: power == SUSPENDED -> must(S_RESUME, RECONCILIATION(newest))
    :: power == OFF -> must(S_START, RECONCILIATION(newest))
    :: else
    fi
  od
}

/* Its completion is recorded only where it was seen running when it was exposed already. */
inline completeMigration() {
  do
  :: atomic { dUp; power = dVm };
    if
    :: power == OFF -> must(D_START, RECONCILIATION(newest))
    :: else
    fi;
    must(D_EXPOSE, RECONCILIATION(newest));
#ifndef MUTANT_RECONCILIATION_COMPLETES_BEFORE_LOOK
    atomic { dUp; power = dVm };
#endif
    if
    :: power == RUNNING -> must(D_COMPLETED, RECONCILIATION(newest)); break
    :: else
    fi
  od
}

inline reconcile() {
  dUp;
  newest = (started[2] -> 2 : (started[1] -> 1 : 0));
  if
  :: newest == 0
  :: newest != 0 && rolledBack[newest] -> letSourceServe()
  :: newest != 0 && !rolledBack[newest] && (completed[newest] || outcome[newest] == COMMITTED) ->
    if
    :: dFence -> /* a rollback has begun: it goes on */
      must(D_FENCE, RECONCILIATION(newest));
      must(D_ROLLED_BACK, RECONCILIATION(newest));
      letSourceServe()
    :: !dFence && completed[newest]
    :: !dFence && !completed[newest] ->
      must(S_FENCE, RECONCILIATION(newest));
      completeMigration()
    fi
  :: else ->
#ifdef MUTANT_RECONCILIATION_RELEASES_BEFORE_ABANDONED
    letSourceServe();
#endif
    abandon(RECONCILIATION(newest));
    if
    :: answer == REFUSED
    :: answer == OK ->
      dUp;
      if
      :: dVm == RUNNING || dVm == LANDING -> must(D_STOP, RECONCILIATION(newest))
      :: else
      fi;
      letSourceServe();
      answer = OK
    fi
  fi;
  atomic { settled = (answer != REFUSED); newest = 0; power = NONE; ours = false }
}

active proctype controlPlane() {
restart:
  skip;
  atomic { leaseOf = 0; suspending = false; power = NONE; ours = false; result = DONE; repeated = false; newest = 0; settled = false; answer = WAITING; request = 0; requestTry = 0 };
  {
end_idle:
    do
    :: atomic { dbGone && !settled -> reconcile() }
    :: dbGone && settled && dFence && MIGRATED -> settled = false
    :: atomic { !dbGone && dbGoes == FORWARD -> goForward() }
    :: atomic { !dbGone && (dbGoes == BACK_TO_SYNC || dbGoes == BACK_TO_START) -> goBack() }
    :: atomic { !dbGone && dbGoes == ROLL_BACK -> rollBack() }
    :: !dbGone && wishes && dbGoes == ENDED_MOVED -> dbGoes = ROLL_BACK /* rollbackMigration */
    :: !dbGone && wishes && dbGoes == ENDED_UNDONE && dbTry == 1 -> /* retryMigration */
      atomic { dbAttempt = 2; attemptOfTry2 = 2; dbTry = 2; dbPhase = INSTANTIATE; dbGoes = FORWARD }
    :: !dbGone && wishes && (dbGoes == ENDED_MOVED || dbGoes == ENDED_UNDONE) -> wishes = false
    od
  } unless {
    atomic {
      crashed ->
      crashed = false;
      /* What it had asked for may still be under way. */
      if
      :: request != 0 && late == 0 -> late = request; lateTry = requestTry
      :: true
      fi
    }
  };
  goto restart
}

/* ---- What befalls all of them ---- */
active proctype environment() {
end_calm:
  do
  /* Whoever is live is written to, and says so when it is safe on its disk. */
  :: atomic { S_LIVE && sFrozen == 0 && acked < WRITES -> acked++; sData++; check() }
  :: atomic { D_LIVE && acked < WRITES -> acked++; dData++; check() }
  /* Too long nobody has answered a renewal: the agent was killed, cut off or slow, or the control plane was. That one knows first, and then the guest's watchdog thaws. */
  :: leaseOf != 0 -> leaseOf = 0
  :: atomic { S_LIVE && sFrozen != 0 && leaseOf != sFrozen -> sFrozen = 0; sAgent = false }
  /* The agent dies; its watchdog doesn't mind. */
  :: atomic {
      S_LIVE && sAgent -> sAgent = false;
#ifdef MUTANT_THAW_BEFORE_LAPSE
      sFrozen = 0
#endif
    }
  /* The frozen guest is reset. Its boot takes longer than a suspension. */
  :: atomic { faults > 0 && S_LIVE && sFrozen != 0 && !suspending -> faults--; sFrozen = 0; sAgent = false }
  /* Power of the source's host; its autostart starts the machine, unless its fence is armed. */
  :: atomic { faults > 0 && sUp -> faults--; sUp = false; sVm = OFF; sFrozen = 0; sAgent = false }
  :: atomic {
      !sUp ->
      sUp = true;
      if
      :: sFence == 0 -> sVm = RUNNING
      :: else
      fi;
      check()
    }
  /* The source is cut off, alive and serving. */
  :: atomic { faults > 0 && sReached -> faults--; sReached = false }
  :: atomic { !sReached -> sReached = true }
  /* Power of the destination's host, which starts again what was exposed. */
  :: atomic {
      faults > 0 && dUp ->
      faults--;
      dUp = false;
      if
      :: dVm != NONE -> dVm = OFF
      :: else
      fi
    }
  :: atomic {
      !dUp ->
      dUp = true;
      if
      :: dVm == OFF && dOpen && !dFence -> dVm = RUNNING
      :: else
      fi;
      check()
    }
  :: atomic { faults > 0 && !crashed -> faults--; crashed = true }
  :: atomic { faults > 0 && !crashed && !dbGone -> faults--; crashed = true; dbGone = true }
#ifndef NO_OUTSIDER
  /* Somebody resumes the suspended source by hand. */
  :: atomic { faults > 0 && sUp && sVm == SUSPENDED && !sClosed -> faults--; sVm = RUNNING; check() }
#endif
  /* No more of it. */
  :: faults > 0 -> faults = 0
  od
}

/* The database was lost between a release of the source and its start: nothing tells that from a machine that its owner switched off. The verdict names START_SOURCE. */
#define LEFT_TO_ITS_OWNER (dbGone && !MIGRATED && !D_LIVE && sVm == OFF && sFence == 0)

/* When nothing is left to happen, one of them serves, thawed, and the records say which. */
active proctype inTheEnd() {
  timeout ->
  atomic {
    oneServesInTheEnd = LEFT_TO_ITS_OWNER || ((S_LIVE || D_LIVE) && (S_LIVE -> sFrozen == 0 && !MIGRATED : MIGRATED));
#if defined(CLAIM_NEVER_MIGRATED)
    bool never_MIGRATED = !D_LIVE;
    assert(never_MIGRATED)
#elif defined(CLAIM_NEVER_NOT_MIGRATED)
    bool never_NOT_MIGRATED = !(S_LIVE && outcome[1] == ABANDONED);
    assert(never_NOT_MIGRATED)
#else
    assert(oneServesInTheEnd)
#endif
  }
}
