# What a build without sanitizers has instead, as far as the processor knows it.
include(CheckCCompilerFlag)

add_compile_options(-fstack-protector-strong -fno-plt -ffunction-sections -fdata-sections)
if(NOT CMAKE_BUILD_TYPE STREQUAL "Debug") # it needs the optimiser
	add_compile_options(-U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=3)
endif()

set(CMAKE_REQUIRED_FLAGS -Werror) # clang takes what it does not know, and warns
foreach(flag IN ITEMS -fstack-clash-protection -fcf-protection -mbranch-protection=standard)
	string(MAKE_C_IDENTIFIER "HAVE${flag}" have)
	check_c_compiler_flag(${flag} ${have})
	if(${have})
		add_compile_options(${flag})
	endif()
endforeach()
unset(CMAKE_REQUIRED_FLAGS)

add_link_options(LINKER:-z,relro,-z,now,-z,noexecstack LINKER:--as-needed LINKER:--gc-sections)
