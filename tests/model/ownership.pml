/* SPDX-License-Identifier: MIT */
/* Who may touch a slab: the ownership protocol of backends/superslab/slab.h and core/heap.h.
 *
 * A slab is cut into blocks of one class and belongs to one heap, its owner. Only the thread that holds
 * that heap touches the slab's private fields; any thread may free any block. What is shared:
 *
 *   remote[s]  one atomic word: {head of a stack of freed blocks, its length, QUEUED, BUSY, ALLFREE}
 *   tag[s]     owner and class, a relaxed atomic; 0 is nobody
 *   queue[h]   one atomic word: the slabs that heap h has to visit, a stack linked through qnext[]
 *
 *   push    a thread frees another heap's block: a CAS adds a chain of the slab's blocks and sets
 *           QUEUED. If that was clear, the pusher then reads the tag and puts the slab on the queue of
 *           the heap it names. After that it touches nothing of the slab.
 *   take    the owner exchanges queue[h] for nothing; of each slab found there it turns the remote word
 *           to 0 by CAS. The blocks are its own again; a slab with none charged out is returned.
 *   adopt   the holder of two heaps: CAS 0 -> QUEUED (a word that is not 0 is left alone), store the new
 *           tag, then take as above what was pushed in between.
 *   asleep  the push that completes the slab may set BUSY in its own CAS. No block is out then, so
 *           nobody pushes; a taker leaves a busy slab queued. The pusher purges the pages and stores
 *           ALLFREE: every block is free, none is linked. If the purge fails, it just clears BUSY.
 *   sleeper any thread may exchange another heap's queue for nothing and so has those slabs to itself: as
 *           QUEUED is set they change neither owner nor class. It sets BUSY by CAS in the words that are
 *           complete, purges as above, and puts every slab back on the queue of its owner.
 *   park    a thread that ends parks its heap. A new thread, or one that wants a parked heap's slabs,
 *           takes it from the parked ones under the lock and is its only holder until it parks it.
 *   borrow  the purge thread, of which there is one at most, marks a heap `inside` by CAS while nobody else is in a
 *           cold path of it, and has it to itself until it takes the mark away; a holder who comes back too
 *           soon waits for that. It may be a parked heap; who takes that meanwhile waits likewise.
 *   fork    waits until nothing is borrowed, then stops all threads but one at any instant. The child parks the heaps of the dead that are
 *           not `inside` a cold path; the rest are frozen: nobody holds them ever again.
 *
 * Processes: WORKERS threads that come and go, each time with any parked heap of HEAPS; FREERS threads
 * that free and have no heap; a Purger that borrows; a Collector when all have ended. When to do what is policy, so each
 * choice is left to chance. A block in a cache or on its way is charged out like a live one: all are
 * LIVE here, and any thread may free any of them.
 *
 * A CAS loop is one step, for a round that fails writes only to a block that the thread holds. So is
 * what is done under a lock. Memory orders are not in here: see README.md.
 *
 * Invariants, each an assertion:
 *   I1  private fields have one writer at a time, the holder of the owner's heap     enter, leave
 *   I2  a block is in one hand or list: each step finds it where it has to be        move_block
 *   I3  the word is 0, or QUEUED is set                                              free_remote
 *   I4  a queued slab is neither returned nor given another owner or class           settled, enqueue
 *   I5  a slab is on one queue at most, once, and that is its owner's                enqueue, drain
 *   I6  a page is purged only while all its blocks are on the remote stack           purge
 *   I7  used and the free list agree with where the blocks are                       leave
 *   I8  in the end every slab comes home; after a fork, all but those of LOST        Collector
 *   I9  nobody waits for another thread but for one that borrows            (invalid end states)
 *
 * BREAK_x makes one deliberate mistake, which the checker must find; they are listed in `run`.
 */

#ifndef WORKERS
#define WORKERS 2
#endif
#ifndef FREERS
#define FREERS 0
#endif
#ifndef HEAPS
#define HEAPS 2                /* at most MAX_HEAPS */
#endif
#ifndef SLABS
#define SLABS 2                /* at most MAX_SLABS */
#endif
#ifndef CLASS_LEAST
#define CLASS_LEAST 2          /* a slab of class c holds c blocks; classes CLASS_LEAST to 2 are used */
#endif
#ifndef PURGE
#define PURGE 1                /* 0: nobody purges for a sleeper */
#endif
#ifndef SLEEPER
#define SLEEPER 0              /* 1: workers look after the queues of heaps that they do not hold */
#endif
#ifndef FORK
#define FORK 0                 /* 1: worker 1 may fork, once */
#endif

#ifndef BORROW
#define BORROW 0               /* 1: there is a purge thread */
#endif

#define MAX_HEAPS 3
#define MAX_SLABS 2
#define MAX_BLOCKS 2

#define HEAD(w)  ((w) & 3)     /* 0: none; i + 1: block i of the slab */
#define LEN(w)   (((w) >> 2) & 3)
#define QUEUED   16
#define BUSY     32
#define ALLFREE  64
#define WORD(head, len)  ((head) | ((len) << 2))

#define TAG(heap, class)  ((heap) | ((class) << 3))
#define OWNER(tag)        ((tag) & 7)
#define CLASS(tag)        ((tag) >> 3)

#define NOLINK  3              /* what a block holds if not a link: the program's data, or zeros */

/* Shared atomics. Heaps and slabs count from 1, so that 0 is none. */
byte remote[MAX_SLABS + 1];
byte tag[MAX_SLABS + 1];
byte queue[MAX_HEAPS + 1];

/* A slab's, guarded by the protocol. */
byte qnext[MAX_SLABS + 1];     /* written by who set QUEUED, read by who took the queue */
byte used[MAX_SLABS + 1];      /* private: blocks charged out */
byte avail[MAX_SLABS + 1];     /* private: the free blocks, as a set */
byte next[(MAX_SLABS + 1) * MAX_BLOCKS];
#define NEXT(s, b)  next[(s) * MAX_BLOCKS + (b)]

/* Under the locks of the parked heaps and of the pool. */
bit parked[MAX_HEAPS + 1];
bit pooled[MAX_SLABS + 1];

/* Written by who is in a cold path of the heap, read in the child of a fork. */
bit inside[MAX_HEAPS + 1];
bit borrowing;                 /* what fork waits for */

/* Ghosts, which only assertions, the choice of a block to free, and fork look at. */
mtype = { UNCUT, FREE, LIVE, HELD, REMOTE };
mtype at[(MAX_SLABS + 1) * MAX_BLOCKS];
#define AT(s, b)  at[(s) * MAX_BLOCKS + (b)]
byte writer[MAX_SLABS + 1];    /* the thread that is at the slab's private fields */
byte holder[MAX_HEAPS + 1];    /* the thread that holds the heap; 0: parked or frozen */
byte borrower[MAX_HEAPS + 1];  /* the purge thread, while it is in the heap */
bit on_queue[MAX_SLABS + 1];   /* or in the hands of the one who took the queue, not yet visited */
bit frozen[MAX_HEAPS + 1];
byte threads;                  /* not yet ended */
byte survivor;                 /* after a fork, the only thread that lives */

#define DEAD  (survivor != 0 && survivor != _pid)

#define move_block(s, b, from, to) \
	assert(AT(s, b) == from); AT(s, b) = to

/* Nobody has the heap from its holder. */
#define at_hand(h)  (!BORROW || !inside[h])

/* Opens and closes a stretch of work on private fields; in between, the others run. */
#define has(h)  (borrower[h] == 0 && holder[h] == _pid || borrower[h] == _pid)
#define enter(s) \
	assert(writer[s] == 0 && has(OWNER(tag[s]))); \
	writer[s] = _pid
#define leave(s) \
	assert(writer[s] == _pid && has(OWNER(tag[s]))); \
	assert(avail[s] == (AT(s, 0) == FREE) + 2 * (AT(s, 1) == FREE)); \
	assert(used[s] + (AT(s, 0) == FREE) + (AT(s, 1) == FREE) == CLASS(tag[s])); \
	writer[s] = 0

#define settled(s) \
	assert(remote[s] == 0 && !on_queue[s])

/* What a fork may cost the child: a slab of a frozen heap, or on its way to or from the pool, or with a
 * block in a dead thread's cache, or that a dead thread was purging, or had not put on the queue yet. */
#define LOST(s) \
	(survivor != 0 && \
	 (frozen[OWNER(tag[s])] || (tag[s] == 0 && !pooled[s]) || AT(s, 0) == HELD || AT(s, 1) == HELD \
	  || (remote[s] & BUSY) || ((remote[s] & QUEUED) && !on_queue[s])))

/* ---- heaps ---- */

inline take_heap(h)
{
	d_step {
		assert(parked[h] && holder[h] == 0 && (BORROW || !inside[h]));
		parked[h] = 0;
		holder[h] = _pid
	}
}

inline park_heap(h)
{
	inside[h] = 0;
	atomic {
		assert(!parked[h] && holder[h] == _pid);
		holder[h] = 0;
		parked[h] = 1
	}
}

/* ---- the owner's side ---- */

/* The Treiber push of slab s on heap h's queue, by who has set QUEUED or has taken the queue. */
inline enqueue(s, h)
{
	d_step {
		assert(h != 0 && h == OWNER(tag[s]) && (remote[s] & QUEUED) && !on_queue[s]);
		on_queue[s] = 1;
		qnext[s] = queue[h];
		queue[h] = s
	}
}

/* The blocks of word w, which the owner has just taken, become free ones of slab s. */
inline absorb(s, w)
{
	if
	:: w & ALLFREE ->
		assert(used[s] == CLASS(tag[s]) && avail[s] == 0 && HEAD(w) == 0);
		b = 0;
		do
		:: b < CLASS(tag[s]) ->
			move_block(s, b, REMOTE, FREE);
			avail[s] = avail[s] | (1 << b);
			b++
		:: else -> break
		od;
		used[s] = 0
	:: else ->
		do
		:: LEN(w) > 0 ->
			assert(HEAD(w) != 0 && HEAD(w) != NOLINK);
			b = HEAD(w) - 1;
			move_block(s, b, REMOTE, FREE);
			avail[s] = avail[s] | (1 << b);
			used[s]--;
			w = WORD(NEXT(s, b), LEN(w) - 1);
			NEXT(s, b) = NOLINK
		:: else -> break
		od;
		assert(HEAD(w) == 0)
	fi;
	w = 0;
	b = 0
}

/* Ends the owner's work on slab s: a slab none of whose blocks is charged out goes to the pool. */
inline leave_or_return(s)
{
	if
	:: used[s] != 0 -> d_step { leave(s) }
	:: else ->
		d_step {
			settled(s);
			leave(s);
			writer[s] = _pid;
			b = 0;
			do
			:: b < CLASS(tag[s]) -> move_block(s, b, FREE, UNCUT); b++
			:: else -> break
			od;
			b = 0;
			avail[s] = 0;
			tag[s] = 0
		}
		d_step {
			settled(s);
			assert(writer[s] == _pid && !pooled[s]);
			writer[s] = 0;
			pooled[s] = 1
		}
	fi
}

/* Heap h's holder takes the word of slab s, which is on no queue but has QUEUED set. `blind`: even if
 * somebody purges it. */
inline take(s, h, blind)
{
	d_step {
		w = remote[s];
		if
		:: (w & BUSY) && !blind -> skip
		:: else -> remote[s] = 0
		fi
	}
	if
	:: (w & BUSY) && !blind ->
		d_step { w = 0; leave(s) }
		enqueue(s, h)
	:: else ->
		atomic { absorb(s, w) }
		leave_or_return(s)
	fi
}

/* Heap h's holder visits every slab that waits for it. */
inline drain(h)
{
	d_step { list = queue[h]; queue[h] = 0 }
	do
	:: list != 0 ->
		atomic {
			s = list;
			enter(s);
			assert(OWNER(tag[s]) == h && (remote[s] & QUEUED) && on_queue[s]);
			on_queue[s] = 0;
#ifndef BREAK_LATE_LINK
			list = qnext[s];
			qnext[s] = 0
#endif
		}
#ifdef BREAK_BLIND_TAKE
		take(s, h, 1);
#else
		take(s, h, 0);
#endif
#ifdef BREAK_LATE_LINK
		list = qnext[s]
#endif
	:: else -> break
	od;
	s = 0
}

/* Slab s of heap p becomes heap h's. */
inline adopt(s, p, h)
{
	atomic {
		enter(s);
		if
		:: remote[s] != 0 -> leave(s)
		:: else ->
#ifndef BREAK_UNMARKED_ADOPT
			remote[s] = QUEUED;
#endif
			w = 1
		fi
	}
	if
	:: w ->
		tag[s] = TAG(h, CLASS(tag[s]));
#ifdef BREAK_STORING_ADOPT
		d_step { remote[s] = 0; w = 0; leave(s) }
#else
#ifdef BREAK_BLIND_ADOPT
		take(s, h, 1)
#else
		take(s, h, 0)
#endif
#endif
	:: else
	fi
}

/* ---- frees ---- */

/* Any live block, or both of a slab, come into this thread's hands: b of slab s and, if n is 2, the other. */
inline pick_live(s, b, n)
{
	if
	:: AT(1, 0) == LIVE -> s = 1; b = 0
	:: AT(1, 1) == LIVE -> s = 1; b = 1
	:: AT(2, 0) == LIVE -> s = 2; b = 0
	:: AT(2, 1) == LIVE -> s = 2; b = 1
	fi;
	AT(s, b) = HELD;
	if
	:: AT(s, 1 - b) == LIVE -> AT(s, 1 - b) = HELD; n = 2
	:: n = 1
	fi
}

/* The page that block b lies in goes back to the system. */
inline purge(s, b)
{
	d_step {
		assert(AT(s, b) == REMOTE || b >= CLASS(tag[s]));
		NEXT(s, b) = NOLINK
	}
}

/* The pages of a slab whose word is BUSY go back, or the system refuses. */
inline purge_all(s)
{
	if
	:: purge(s, 0);
	   purge(s, 1);
	   remote[s] = QUEUED | ALLFREE
	:: remote[s] = remote[s] & ~BUSY
	fi
}

/* The slabs that wait for heap h, whose holder may be awake all the same: complete ones are purged. */
inline look_after(h)
{
	d_step {
		list = queue[h];
		queue[h] = 0;
		s = list;
		do
		:: s != 0 -> on_queue[s] = 0; s = qnext[s]
		:: else -> break
		od
	}
	do
	:: list != 0 ->
		d_step { s = list; list = qnext[s] }
#ifdef BREAK_STALE_SLEEPER
		w = remote[s];
		if
		:: LEN(w) == CLASS(tag[s]) && !(w & (BUSY | ALLFREE)) -> enqueue(s, OWNER(tag[s])); busy = 1
		:: else
		fi;
		if
		:: busy -> remote[s] = w | BUSY
		:: else
		fi;
#else
		atomic {
			assert((remote[s] & QUEUED) && !on_queue[s]);
			w = remote[s];
			if
			:: LEN(w) == CLASS(tag[s]) && !(w & (BUSY | ALLFREE)) -> remote[s] = w | BUSY; busy = 1
			:: true
			fi
		}
#endif
		if
		:: busy -> purge_all(s)
		:: else
		fi;
#ifdef BREAK_STALE_SLEEPER
		if
		:: !busy -> enqueue(s, OWNER(tag[s]))
		:: else
		fi;
#else
		enqueue(s, OWNER(tag[s]));
#endif
		atomic { w = 0; busy = 0 }
	:: else -> break
	od;
	s = 0
}

inline free_local(s, b, n)
{
	atomic { at_hand(h) -> enter(s); inside[h] = 1 }
	d_step {
		move_block(s, b, HELD, FREE);
		avail[s] = avail[s] | (1 << b);
		if
		:: n == 2 ->
			move_block(s, 1 - b, HELD, FREE);
			avail[s] = avail[s] | (1 << (1 - b))
		:: else
		fi;
		used[s] = used[s] - n;
		b = 0; n = 0
	}
#ifdef BREAK_EAGER_RETURN
	if
	:: used[s] > 0 && used[s] == LEN(remote[s]) ->
		d_step { w = remote[s]; remote[s] = 0; absorb(s, w) }
	:: else
	fi;
#endif
	leave_or_return(s);
	d_step { s = 0; inside[h] = 0 }
}

/* The first step of a push. w becomes the word that it replaced, busy whether it set BUSY. */
inline push(s, b, n)
{
	atomic {
		w = remote[s];
		assert(!(w & (BUSY | ALLFREE)));
		assert(w == 0 || (w & QUEUED));
		if
#ifndef BREAK_LATE_BUSY
		:: PURGE && LEN(w) + n == CLASS(tag[s]) -> busy = 1
#endif
		:: busy = 0
		fi;
		d_step {
			move_block(s, b, HELD, REMOTE);
			NEXT(s, b) = HEAD(w);
			remote[s] = WORD(b + 1, LEN(w) + 1) | QUEUED;
			if
			:: n == 2 ->
				move_block(s, 1 - b, HELD, REMOTE);
				NEXT(s, 1 - b) = b + 1;
				remote[s] = WORD(2 - b, LEN(w) + 2) | QUEUED
			:: else
			fi;
#ifdef BREAK_LATE_BUSY
			o = (LEN(remote[s]) == CLASS(tag[s]) -> remote[s] : 0);
#endif
			if
			:: busy -> remote[s] = remote[s] | BUSY
			:: else
			fi
		}
	}
#ifdef BREAK_LATE_BUSY
	atomic {
		if
		:: o != 0 && remote[s] == o -> remote[s] = o | BUSY; busy = 1
		:: else
		fi;
		o = 0
	}
#endif
}

/* The blocks in this thread's hands go to the slab's remote stack. */
inline free_remote(s, b, n)
{
#ifdef BREAK_EARLY_TAG
	o = OWNER(tag[s]);
#endif
	push(s, b, n);
	if
	:: !(w & QUEUED) ->
#ifndef BREAK_EARLY_TAG
		o = OWNER(tag[s]);
#endif
		enqueue(s, o)
	:: else
	fi;
	if
	:: busy -> purge_all(s)
	:: else
	fi;
	atomic { s = 0; b = 0; n = 0; w = 0; o = 0; busy = 0 }
}

/* ---- threads ---- */

proctype Worker()
{
	byte h, p, s, b, n, w, list, o;
	bit busy;

	{
	do
	:: atomic {                             /* a thread starts */
		if
		:: parked[1] -> h = 1
		:: parked[2] -> h = 2
		:: parked[3] -> h = 3
		fi;
		take_heap(h)
	   }
	   do
	   :: atomic {                          /* a block of one of its slabs */
		if
		:: at_hand(h) && OWNER(tag[1]) == h && avail[1] != 0 -> s = 1
		:: at_hand(h) && OWNER(tag[2]) == h && avail[2] != 0 -> s = 2
		fi;
		enter(s);
		inside[h] = 1
	      }
	      d_step {
		b = ((avail[s] & 1) -> 0 : 1);
		move_block(s, b, FREE, LIVE);
		avail[s] = avail[s] & ~(1 << b);
		used[s]++;
		leave(s);
		s = 0; b = 0;
		inside[h] = 0
	      }

	   :: atomic {                          /* a slab from the pool */
		if
		:: at_hand(h) && pooled[1] -> s = 1
		:: at_hand(h) && pooled[2] -> s = 2
		fi;
		pooled[s] = 0;
		inside[h] = 1;
		assert(writer[s] == 0 && tag[s] == 0);
		settled(s);
		writer[s] = _pid;
		if
		:: n = 2
		:: CLASS_LEAST == 1 -> n = 1
		fi
	      }
	      d_step {
		tag[s] = TAG(h, n);
		do
		:: n > 0 ->
			n--;
			move_block(s, n, UNCUT, FREE);
			avail[s] = avail[s] | (1 << n)
		:: else -> break
		od;
		leave(s);
		s = 0;
		inside[h] = 0
	      }

	   :: atomic { pick_live(s, b, n) }     /* a free */
	      o = OWNER(tag[s]);
	      if
	      :: o == h -> o = 0; free_local(s, b, n)
	      :: o = 0; atomic { at_hand(h) -> inside[h] = 1 }; free_remote(s, b, n); inside[h] = 0
	      fi

	   :: atomic { queue[h] != 0 && at_hand(h) -> inside[h] = 1 }  /* a look at the queue */
	      drain(h);
	      inside[h] = 0

	   :: atomic {                          /* the queue of another heap */
		if
		:: SLEEPER && at_hand(h) && queue[1] != 0 && h != 1 -> p = 1
		:: SLEEPER && at_hand(h) && queue[2] != 0 && h != 2 -> p = 2
		:: SLEEPER && at_hand(h) && queue[3] != 0 && h != 3 -> p = 3
		fi;
		inside[h] = 1
	      }
	      look_after(p);
	      atomic { p = 0; inside[h] = 0 }

	   :: atomic {                          /* the slabs of a parked heap */
		if
		:: at_hand(h) && parked[1] -> p = 1
		:: at_hand(h) && parked[2] -> p = 2
		:: at_hand(h) && parked[3] -> p = 3
		fi;
		take_heap(p);
		inside[h] = 1
	      }
#ifndef BREAK_OPEN_CLAIM
	      atomic { at_hand(p) -> inside[p] = 1 }
#endif
	      if
	      :: queue[p] != 0 -> drain(p)
	      :: true
	      fi;
	      s = 1;
	      do
	      :: s <= SLABS ->
		if
		:: OWNER(tag[s]) == p -> adopt(s, p, h)
		:: true
		fi;
		s++
	      :: else -> s = 0; break
	      od;
	      park_heap(p);
	      atomic { p = 0; inside[h] = 0 }

	   :: atomic { FORK && _pid == 1 && survivor == 0 && !borrowing ->
		survivor = _pid;
		p = 1;
		do
		:: p > HEAPS -> break
		:: p <= HEAPS && (p == h || parked[p]) -> p++
		:: p <= HEAPS && p != h && !parked[p] ->
			holder[p] = 0;
			if
			:: inside[p] -> frozen[p] = 1
			:: else -> parked[p] = 1
			fi;
			p++
		od;
		p = 0
	      }

	   :: break
	   od;
	   atomic { at_hand(h) -> inside[h] = 1 }  /* the thread ends */
#ifdef BREAK_EARLY_PARK
	   park_heap(h);
	   drain(h);
#else
	   drain(h);
	   park_heap(h);
#endif
	   h = 0
	:: break
	od
	} unless { DEAD };
	threads--
}

proctype Freer()
{
	byte s, b, n, w, o;
	bit busy;

	{
	do
	:: atomic { pick_live(s, b, n) }
	   free_remote(s, b, n)
	:: break
	od
	} unless { DEAD };
	threads--
}

proctype Purger()
{
	byte h, s, b, w, list;

	{
	do
	:: atomic {
		if
#ifdef BREAK_BLIND_BORROW
		:: HEAPS >= 1 && !frozen[1] -> h = 1
		:: HEAPS >= 2 && !frozen[2] -> h = 2
#else
		:: HEAPS >= 1 && !inside[1] -> h = 1
		:: HEAPS >= 2 && !inside[2] -> h = 2
#endif
		fi;
		inside[h] = 1;
		borrowing = 1;
		borrower[h] = _pid
	   }
	   if
	   :: queue[h] != 0 -> drain(h)
	   :: true
	   fi;
	   atomic {                             /* free pages of the slab go back: where one borrows there is just one */
		if
		:: OWNER(tag[1]) == h -> s = 1; enter(s)
		:: true
		fi
	   }
	   d_step {
		if
		:: s != 0 -> leave(s); s = 0
		:: else
		fi;
		borrower[h] = 0;
		inside[h] = 0
	   }
	   atomic { borrowing = 0; h = 0 }
	:: break
	od
	} unless { DEAD };
	threads--
}

/* The last thread: frees what is live, holds each parked heap in turn, and sees that all come home. */
proctype Collector()
{
	byte h, s, b, n, w, list, o;
	bit busy;

	atomic {
		do
		:: AT(1, 0) == LIVE || AT(1, 1) == LIVE || AT(2, 0) == LIVE || AT(2, 1) == LIVE ->
			pick_live(s, b, n);
			free_remote(s, b, n)
		:: else -> break
		od;
		h = 1;
		do
		:: h <= HEAPS && parked[h] ->
			take_heap(h);
			drain(h);
			s = 1;
			do
			:: s <= SLABS && OWNER(tag[s]) == h ->
				enter(s);
				leave_or_return(s);
				s++
			:: s <= SLABS && OWNER(tag[s]) != h -> s++
			:: s > SLABS -> break
			od;
			park_heap(h);
			h++
		:: h <= HEAPS && !parked[h] -> assert(frozen[h]); h++
		:: h > HEAPS -> break
		od;
		s = 1;
		do
		:: s <= SLABS ->
			assert(LOST(s) || (pooled[s] && tag[s] == 0 && remote[s] == 0 && !on_queue[s]));
			s++
		:: else -> break
		od
	}
}

init
{
	byte i;

	atomic {
		i = 1;
		do
		:: i <= HEAPS -> parked[i] = 1; i++
		:: else -> break
		od;
		i = 1;
		do
		:: i <= SLABS ->
			pooled[i] = 1;
			AT(i, 0) = UNCUT; AT(i, 1) = UNCUT;
			NEXT(i, 0) = NOLINK; NEXT(i, 1) = NOLINK;
			i++
		:: else -> break
		od;
		threads = WORKERS + FREERS + BORROW;
		i = 0;
		do
		:: i < WORKERS -> run Worker(); i++
		:: else -> break
		od;
		i = 0;
		do
		:: i < FREERS -> run Freer(); i++
		:: else -> i = 0; break
		od;
		if
		:: BORROW -> run Purger()
		:: else
		fi
	}
	threads == 0;
	run Collector()
}
